# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Make a feature branch of any stage-wise backbone."""
import copy
from itertools import groupby
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torchvision.ops import Permute

from .base import FeatureBranch
from .trace import (IMAGE_SIZE, Call, FeatureMap, find_chain, run_on_meta,
                    shorten)

__all__ = ['feature_branch_from_stages', 'split_backbone']

_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def feature_branch_from_stages(stem: nn.Module,
                               stages: Sequence[nn.Module]) -> FeatureBranch:
    """Make a feature branch of a stem and four stages, cut by hand.

    Channels and strides are measured on the meta device.

    Args:
        stem (nn.Module): Images (B, 3, H, W) -> X_0 (B, C1, h, w).
        stages (Sequence[nn.Module]): Four modules, X_i -> X_{i+1}.

    Raises:
        ValueError: If there are not four stages, one returns something else
            than a feature map, or changes its input in place.

    Example:
        >>> from torchvision.models import convnext_tiny
        >>> layers = convnext_tiny().features
        >>> branch = feature_branch_from_stages(
        ...     layers[0], (layers[1], layers[2:4], layers[4:6], layers[6:]))
        >>> branch.channels, branch.strides
        ((96, 96, 192, 384, 768), (4, 4, 8, 16, 32))
    """
    stages = tuple(stages)
    if len(stages) != 4:
        raise ValueError(f'there must be four stages, got {len(stages)}')
    x = torch.empty(2, 3, *IMAGE_SIZE, device='meta')
    maps = []
    for i, part in enumerate((stem, *stages)):
        x, found = _measure(part, f'stage {i - 1}' if i else 'the stem', x)
        maps.append(found)
    return FeatureBranch(
        stem=stem,
        stages=stages,
        channels=tuple(found.channels for found in maps),
        strides=tuple(found.stride for found in maps),
        depth_factor=(1, 1, 1, 1))


def _measure(part: nn.Module, title: str,
             x: Tensor) -> Tuple[Tensor, FeatureMap]:
    """Run a part on the meta device and read what it returns."""
    before = x._version
    out = run_on_meta(copy.deepcopy(part).to('meta').eval(), x)
    tensor = out if isinstance(out, Tensor) else None
    found = FeatureMap.read(tensor)
    if tensor is None or found is None or found.channels_last:
        got = type(out).__name__ if tensor is None else tuple(tensor.shape)
        raise ValueError(
            f'{title} must return a feature map (B, C, h, w), got {got} for '
            f'images of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]} pixels')
    if x._version != before:
        raise ValueError(
            f'{title} changes its input in place, which the classification '
            f'branch reads too: begin it with another layer, or set '
            f'inplace=False')
    return tensor, found


def split_backbone(
    backbone: nn.Module,
    cut_after: Optional[Sequence[str]] = None,
    init_weights: Optional[Callable[[nn.Module],
                                    None]] = None) -> FeatureBranch:
    """Cut a backbone into a feature branch.

    The backbone's forward pass must be a chain of modules, which a dry run
    on the meta device finds. The stages are cut where the resolution
    changes: a stage begins with its down-sampling. The parts run the same
    modules in the same order as the backbone, and every parameter of it is
    in one of them.

    Args:
        backbone (nn.Module): Takes images (B, 3, H, W) and returns a feature
            map, or several, of which the last counts. Its modules become the
            branch's.
        cut_after (Sequence[str], optional): Names of the modules with which
            the stem and the first three stages end. Defaults to None: by
            resolution.
        init_weights (Callable, optional): Initialises the backbone, given
            whole, when ``init_weights`` of the trunk is called. Defaults to
            None, the weights stay as they are.

    Returns:
        FeatureBranch: As of :func:`feature_branch_from_stages`.

    Raises:
        ValueError: If the backbone cannot be cut so.

    Example:
        >>> from torchvision.models import efficientnet_b0
        >>> branch = split_backbone(efficientnet_b0().features)
        >>> branch.channels, branch.strides
        ((16, 24, 40, 112, 1280), (2, 4, 8, 16, 32))
    """
    whole = _Whole(backbone, init_weights)
    parts = [whole.take(group) for group in _cut(backbone, cut_after)]
    branch = feature_branch_from_stages(parts[0], parts[1:])
    if init_weights is not None:
        branch.init_weights = whole
    return branch


def _cut(backbone: nn.Module,
         cut_after: Optional[Sequence[str]]) -> List[List[Call]]:
    """Find the links of the stem and of each stage."""
    if cut_after is None:
        chain = find_chain(backbone, _spans_stages)
        _check_whole(backbone, chain)
        return _group_by_stride(backbone, chain)
    _check_names(cut_after)
    chain = find_chain(
        backbone, lambda call: any(
            name.startswith(f'{call.name}.') for name in cut_after))
    _check_whole(backbone, chain)
    return _group_by_name(chain, cut_after)


class _Whole:
    """The backbone that the parts were taken from, to initialise them."""

    def __init__(self, backbone: nn.Module,
                 init_weights: Optional[Callable[[nn.Module], None]]) -> None:
        self.backbone = backbone
        self.init_weights = init_weights
        self.places: List[Tuple[str, nn.Sequential, str]] = []

    def take(self, links: Sequence[Call]) -> nn.Sequential:
        """Join links to a part that takes and returns (B, C, h, w)."""
        part = nn.Sequential()
        if _is_channels_last(links[0].input):
            part.add_module('to_channels_last', Permute(list(_TO_LAST)))
        for link in links:
            name = key = link.name.replace('.', '_')
            while key in part._modules:  # a module that runs twice
                key = f'{name}_{len(part)}'
            part.add_module(key, self.backbone.get_submodule(link.name))
            self.places.append((link.name, part, key))
        if _is_channels_last(links[-1].output):
            part.add_module('to_channels_first', Permute(list(_TO_FIRST)))
        return part

    def __call__(self) -> None:
        """Put the parts back in their places and initialise the whole.

        The trunk's layers may have been exchanged meanwhile, as by the
        conversion to SyncBatchNorm.
        """
        for name, part, key in self.places:
            parent, _, leaf = name.rpartition('.')
            setattr(
                self.backbone.get_submodule(parent), leaf, part._modules[key])
        assert self.init_weights is not None
        self.init_weights(self.backbone)


def _check_whole(backbone: nn.Module, chain: Sequence[Call]) -> None:
    """Refuse a backbone of which something is not in the chain."""
    taken = {
        id(parameter)
        for link in chain
        for parameter in backbone.get_submodule(link.name).parameters()
    }
    left = {
        name.rpartition('.')[0]: None
        for name, parameter in backbone.named_parameters()
        if id(parameter) not in taken
    }
    if left:
        raise ValueError(
            f'in {type(backbone).__name__}, {shorten(list(left), 3)} are not '
            f'on the way from the image to the last output: build it without '
            f'them, or with the last stage among its out_indices')


def _is_channels_last(tensor: Optional[Tensor]) -> bool:
    """Whether it is a feature map (B, h, w, C)."""
    found = FeatureMap.read(tensor)
    return found is not None and found.channels_last


def _spans_stages(call: Call) -> bool:
    """Whether a link holds more than one stage, or may do so."""
    before, after = FeatureMap.read(call.input), FeatureMap.read(call.output)
    if before is None or after is None:
        return True
    # A stem may go to stride 4 at once.
    return after.stride > (4 if before.stride == 1 else 2 * before.stride)


def _stride_after(call: Call) -> Optional[int]:
    """The stride of what a link returns."""
    found = FeatureMap.read(call.output)
    return None if found is None else found.stride


def _has_weights(backbone: nn.Module, call: Call) -> bool:
    """Whether it is more than a normalisation, an activation, a pooling."""
    module = backbone.get_submodule(call.name)
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _group_by_stride(backbone: nn.Module,
                     chain: Sequence[Call]) -> List[List[Call]]:
    """Cut a chain where the resolution changes.

    The stem is the first link and the normalisation, activation and pooling
    that follow; if five strides are left, the first of them belongs to it.
    """
    size = 1
    while size < len(chain) and not _has_weights(backbone, chain[size]):
        size += 1
    stem = list(chain[:size])
    stages = [
        list(links) for _, links in groupby(chain[size:], key=_stride_after)
    ]
    if len(stages) > 1 and not any(
            _has_weights(backbone, link) for link in stages[-1]):
        pooling = stages.pop()
        stages[-1] += pooling
    if len(stages) == 5:
        stem += stages.pop(0)
    if len(stages) != 4:
        found: Dict[Optional[int], List[str]] = {}
        for link in chain:
            found.setdefault(_stride_after(link), []).append(link.name)
        listing = '; '.join(f'stride {stride}: {shorten(names)}'
                            for stride, names in found.items())
        raise ValueError(
            f'the backbone has {len(stages)} stages of different stride '
            f'behind its stem instead of 4 ({listing}): say with cut_after '
            f'with which four modules the stem and stages 0 to 2 end')
    return [stem, *stages]


def _check_names(cut_after: Sequence[str]) -> None:
    """Refuse what is not four names."""
    if isinstance(cut_after, str) or len(cut_after) != 4 or not all(
            isinstance(name, str) for name in cut_after):
        raise ValueError(f'cut_after must name four modules, with which the '
                         f'stem and stages 0 to 2 end, got {cut_after!r}')


def _group_by_name(chain: Sequence[Call],
                   cut_after: Sequence[str]) -> List[List[Call]]:
    """Cut a chain behind named modules."""
    names = [call.name for call in chain]
    ends = [0]
    for name in cut_after:
        if name not in names[ends[-1]:]:
            raise ValueError(
                f'cut_after: there is no {name!r} among the modules that run '
                f'one after the other, or it is out of order, got '
                f'{tuple(cut_after)!r}; they are {shorten(names, limit=40)}')
        ends.append(names.index(name, ends[-1]) + 1)
    if ends[-1] == len(chain):
        raise ValueError(f'cut_after leaves nothing for stage 3: '
                         f'{cut_after[-1]!r} is the last module')
    return [
        list(chain[first:last])
        for first, last in zip(ends, (*ends[1:], len(chain)))
    ]
