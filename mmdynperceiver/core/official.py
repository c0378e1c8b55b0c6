# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Published weights in, the right variant out.

The published files name their parameters by the authors' own scheme. This
module knows that scheme as data: one table of names, one table of the
switches that leave traces in the names, and what follows from shapes.
"""
import os
import re
import warnings
from typing import Any, Dict, List, Mapping, Tuple, Union

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchvision.models.mobilenetv3 import InvertedResidualConfig

from ..errors import first_few
from ..io.checkpoint_file import (StateDict, check_weights, conversions,
                                  misfits, read_checkpoint)
from .dyn_perceiver import DynPerceiver
from .trunk import BASE_DEPTHS

__all__ = [
    'infer_variant', 'load_official', 'published_weights', 'read_checkpoint'
]

# Our prefix -> published prefix, first match first. `{}` is the stage number,
# which counts from 0 here and from the given number there.
_PREFIXES: Tuple[Tuple[str, str, int], ...] = (
    (r'trunk\.latents', 'latent', 0),
    (r'trunk\.stem\.', 'cnn_stem.', 0),
    (r'trunk\.stages\.(\d)\.conv\.', 'cnn_body_stage{}.', 1),
    (r'trunk\.stages\.(\d)\.x2z\.dw_conv\.', 'dwc{}_x2z.', 1),
    (r'trunk\.stages\.(\d)\.x2z\.', 'cross_att{}_x2z.', 1),
    (r'trunk\.stages\.(\d)\.z2x\.', 'cross_att{}_z2x.', 2),
    (r'trunk\.stages\.(\d)\.blocks\.', 'self_att{}.', 1),
    (r'trunk\.stages\.(\d)\.token_mixer\.mix\.', 'token_mixer.{}.', 0),
    (r'trunk\.stages\.(\d)\.token_mixer\.expand\.', 'token_expander.{}.', 0),
    (r'trunk\.last_z2x\.', 'last_cross_att_z2x.', 0),
    (r'exits\.classifiers\.0\.', 'early_classifier3.', 0),
    (r'exits\.classifiers\.1\.', 'classifier_att.', 0),
    (r'exits\.classifiers\.2\.', 'classifier_cnn.', 0),
    (r'exits\.classifiers\.3\.', 'classifier_merge.', 0),
    (r'exits\.fkt\.(\d)\.', 'isc{}.', 3),
)

# Inside of the attention blocks: our name -> published names. Several are
# projections that are one matrix here.
_INNER: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    (r'attn\.norm_q\.', ('cross_attn.q_norm.', )),
    (r'attn\.norm_kv\.', ('cross_attn.kv_norm.', )),
    (r'attn\.q\.', ('cross_attn.attention.q_proj.', )),
    (r'attn\.kv\.', ('cross_attn.attention.k_proj.',
                     'cross_attn.attention.v_proj.')),
    (r'attn\.proj\.', ('cross_attn.attention.o_proj.', )),
    (r'attn\.position_bias',
     ('cross_attn.attention.relative_position_bias', )),
    (r'qkv\.', ('self_attn.attention.q_proj.', 'self_attn.attention.k_proj.',
                'self_attn.attention.v_proj.')),
    (r'proj\.', ('self_attn.attention.o_proj.', )),
    (r'norm\.', ('self_attn.norm.', )),
    (r'mlp\.norm\.', ('mlp.layernorm.', )),
)

# Expanded channels of MobileNet-v3-large's blocks at width 1, by stage.
_MOBILENET_EXPANSIONS = ((72, 72), (120, 120, 240), (200, 184, 184, 480, 672,
                                                     672), (960, 960))


class _WithoutValues(TorchFunctionMode):
    """Make layers whose weights have shapes and take no memory.

    ``torch.device('meta')`` would take the numbers from which torchvision
    works out its widths, too.
    """

    _makers = (torch.empty, torch.ones, torch.zeros)

    def __torch_function__(self,
                           func: Any,
                           types: Any,
                           args: Any = (),
                           kwargs: Any = None) -> Any:
        """Change the device of new weights."""
        kwargs = dict(kwargs or {})
        if func in self._makers:
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


def load_official(source: Union[str, os.PathLike, Mapping[str, Any]],
                  weights: str = 'model') -> DynPerceiver:
    """Load published weights into the variant that they belong to.

    Args:
        source (str | PathLike | Mapping): A published file, its content, or
            a bare state dict. Files are read with safe loading only.
        weights (str): 'model' for the trained weights of a file, 'model_ema'
            for their moving average. Defaults to 'model'.

    Returns:
        DynPerceiver: In eval mode; architecture, width, numbers of latents,
        blocks and classes, and ablations follow from names and shapes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read safely, or the weights are
            damaged or of no known variant; the first keys or shapes that do
            not fit are named.
    """
    if not isinstance(source, Mapping):
        source = read_checkpoint(source)
    published = published_weights(source, weights)
    variant = infer_variant(published)
    family = re.match(r'regnety|resnet|mobilenetv3', variant['arch'])
    assert family is not None
    # Names and shapes may suggest a network far larger than the file.
    with _WithoutValues():
        plan = DynPerceiver(**variant)
    state_dict = _convert(plan, published, family.group())
    net = DynPerceiver(**variant)
    own = net.state_dict()
    converted = conversions(state_dict, own)
    if converted:
        warnings.warn(f'the weights are converted {converted}')
    net.load_state_dict({**own, **state_dict})
    return net.eval()


def published_weights(content: Mapping[str, Any],
                      weights: str = 'model') -> StateDict:
    """The state dict, 'model' or 'model_ema', in the content of a published
    file (or a bare state dict), without the prefix of distributed training.

    Raises:
        ValueError: If it is not there, or damaged.
    """
    if weights not in ('model', 'model_ema'):
        raise ValueError(
            f"weights must be 'model' or 'model_ema', got {weights!r}")
    if isinstance(content.get(weights), Mapping):
        content = content[weights]
    elif weights == 'model_ema' or 'model_ema' in content:
        raise ValueError(f'there are no weights under {weights!r}; found '
                         f'{first_few(list(map(str, content)))}')
    return check_weights(content)


def infer_variant(published: Mapping[str, Tensor]) -> Dict[str, Any]:
    """Arguments of ``DynPerceiver``, by published names and shapes.

    Raises:
        ValueError: If an entry that every variant has is missing, or has a
            shape that it has in none.
    """
    stem = 'cnn_stem.0.0.weight'  # of RegNet and MobileNet
    needed = ('latent', 'early_classifier3.weight',
              'self_att1.0.mlp.fc1.weight',
              stem if stem in published else 'cnn_stem.0.weight')
    missing = [name for name in needed if name not in published]
    if missing:
        raise ValueError(
            'not a published Dyn-Perceiver state dict: '
            f'missing {first_few(missing)}; found {first_few(list(published))}'
        )
    try:
        return _infer_sizes(published)
    except (IndexError, ZeroDivisionError, OverflowError) as error:
        raise ValueError('not a published Dyn-Perceiver state dict: shapes '
                         'that no variant has') from error


def _infer_sizes(published: Mapping[str, Tensor]) -> Dict[str, Any]:
    """Infer a variant from names and shapes that are as expected."""
    arch, width = _infer_feature_branch(published)
    depths = [_count(published, rf'self_att{i}\.(\d+)\.') for i in range(1, 5)]
    fc1 = published['self_att1.0.mlp.fc1.weight']

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in published)

    return dict(
        arch=arch,
        width=width,
        num_classes=published['early_classifier3.weight'].shape[0],
        num_latents=published['latent'].shape[0],
        depth_factor=[d / base for d, base in zip(depths, BASE_DEPTHS)],
        mlp_ratio=fc1.shape[0] / fc1.shape[1],
        x2z=has('cross_att2_x2z'),
        z2x=has('cross_att2_z2x'),
        dw_conv=has('dwc1_x2z'),
        last_z2x=has('last_cross_att_z2x'),
        token_mixer=has('token_mixer'),
        fkt=has('isc3'))


def _infer_feature_branch(
        published: Mapping[str, Tensor]) -> Tuple[str, float]:
    """Infer the architecture and the width of the feature branch."""
    if any(name.startswith('cnn_body.block1') for name in published):
        return _infer_regnety(published), 1.
    if 'cnn_body_stage4.0.conv1.weight' in published:
        bottleneck = 'cnn_body_stage1.0.conv3.weight' in published
        depth = _count(published, r'cnn_body_stage3\.(\d+)\.')
        arch = 'resnet50' if bottleneck else \
            'resnet34' if depth == 6 else 'resnet18'
        # Widths are cut to whole numbers, so the widest stage tells most.
        planes = published['cnn_body_stage4.0.conv1.weight'].shape[0]
        return arch, planes / 512
    if 'classifier_cnn.0.weight' in published:
        return 'mobilenetv3-large', _infer_mobilenet_width(published)
    raise ValueError(
        'no known feature branch (RegNet-Y, ResNet, MobileNet-v3): found '
        f'{first_few([n for n in published if n.startswith("cnn_")])}')


def _infer_mobilenet_width(published: Mapping[str, Tensor]) -> float:
    """Find a width factor that rounds to the published channels."""
    hidden = published['classifier_cnn.0.weight'].shape[0]
    found = [(1280, hidden), (24, published['latent'].shape[1])]
    for stage, bases in enumerate(_MOBILENET_EXPANSIONS, 1):
        for block, base in enumerate(bases):
            name = f'cnn_body_stage{stage}.{block}.block.0.0.weight'
            if name in published:
                found.append((base, published[name].shape[0]))
    adjust = InvertedResidualConfig.adjust_channels
    for width in (hidden / 1280, *(i / 100 for i in range(5, 501))):
        if all(adjust(base, width) == channels for base, channels in found):
            return width
    raise ValueError(
        'no MobileNet-v3-large has these channels at any width factor; '
        'expected at width 1, and found: '
        f'{first_few([f"{base}, {channels}" for base, channels in found])}')


def _infer_regnety(published: Mapping[str, Tensor]) -> str:
    """Tell the RegNet-Y sizes apart by their last width."""
    name = 'cnn_body.block4.block4-0.proj.0.weight'
    widths = {440: '400mf', 784: '800mf', 888: '1600mf', 1512: '3200mf'}
    width = published[name].shape[0] if name in published else None
    if width not in widths:
        raise ValueError(f'no known RegNet-Y: {name!r} must have '
                         f'{sorted(widths)} channels, got {width}')
    return f'regnety-{widths[width]}'


def _published_names(name: str, family: str) -> List[str]:
    """Published names, in 'regnety', 'resnet' or 'mobilenetv3', of one entry
    of our state dict; several, in their order, where we fuse matrices."""
    prefix, rest = name, ''
    for pattern, template, offset in _PREFIXES:
        match = re.match(pattern, name)
        if match:
            number = int(match.group(1)) + offset if match.groups() else 0
            prefix, rest = template.format(number), name[match.end():]
            break
    if prefix.startswith('cnn_body_stage'):
        if family == 'regnety':
            prefix = prefix.replace('cnn_body_stage', 'cnn_body.block')
        elif family == 'resnet':
            # Behind the last batch norm stands our stochastic depth.
            rest = re.sub(r'(bn\d)\.0\.', r'\1.', rest)
    elif prefix == 'classifier_cnn.' and family != 'mobilenetv3':
        # Before the only linear layer stands our dropout.
        rest = rest.removeprefix('1.')
    elif '_att' in prefix:
        block = re.match(r'\d+\.', rest) if 'self_att' in prefix else None
        head = block.group() if block else ''
        rest = rest[len(head):]
        for pattern, published in _INNER:
            match = re.match(pattern, rest)
            if match:
                return [
                    prefix + head + inner + rest[match.end():]
                    for inner in published
                ]
        rest = head + rest
    return [prefix + rest]


def _convert(net: DynPerceiver, published: StateDict,
             family: str) -> StateDict:
    """Rename and fuse published weights for a network, or refuse them."""
    own = {
        name: value
        for name, value in net.state_dict().items()
        if not name.endswith('._extra_state')
    }
    sources = {name: _published_names(name, family) for name in own}
    expected = {
        source: part
        for name, value in own.items()
        for source, part in zip(
            sources[name],
            value.chunk(len(sources[name])) if value.ndim else [value])
    }
    found = misfits(expected, published, optional=())
    if found:
        raise ValueError(
            'the weights do not fit the variant that their names and shapes '
            'suggest; ' + '; '.join(f'{title}: {first_few(items)}'
                                    for title, items in found.items()))
    return {
        name:
        torch.cat([published[source] for source in parts])
        if len(parts) > 1 else published[parts[0]]
        for name, parts in sources.items()
    }


def _count(names: Mapping[str, Any], pattern: str) -> int:
    """How many different numbers a pattern finds at the start of names."""
    found = (re.match(pattern, name) for name in names)
    return len({match.group(1) for match in found if match})
