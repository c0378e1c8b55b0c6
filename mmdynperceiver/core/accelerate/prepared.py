# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The same network with less work, for prediction alone."""
from typing import Any, Dict, Optional, Sequence, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import fusion
from torchvision.ops import StochasticDepth

from ..complexity import CountsMacs
from ..exits import Exits
from ..segments import SegmentedTrunk
from ..trunk import Trunk
from .copies import copy_model, on_meta
from .folding import drops_out, fold_attention, fold_exits, fold_pooling, folds
from .micro_batches import measure_micro_batches
from .narrow_conv import SampledConv2d
from .plain import is_hooked, is_plain

__all__ = ['prepare_for_inference']

_Module = TypeVar('_Module', bound=nn.Module)


@torch.no_grad()
def prepare_for_inference(model: _Module,
                          image_size: Optional[Sequence[int]] = (224, 224),
                          dtype: Optional[torch.dtype] = None) -> _Module:
    """Copy a model and fold what does not depend on the image.

    - Batch norms go into the layer beside them.
    - Single-head attention loses two of its four projections (see
      :mod:`~mmdynperceiver.core.accelerate.folding`). The queries of the first
      x2z, made of the initial latents, become constants, and so do the kernels
      that sharpen and pool the maps (see
      :class:`~mmdynperceiver.core.attention.X2Z`).
    - On CPUs, large batches run through a segment in pieces (see
      :mod:`~mmdynperceiver.core.accelerate.micro_batches`).
    - Where exits follow, the last z2x averages its hidden layer before its
      last projection, which needs one token then instead of all. The state
      behind the last segment holds that mean (B, C, 1, 1), not the map.
    - 1x1 convolutions become the matrix products that they are.
    - Dropout and stochastic depth are removed.

    In single precision the logits of an exit stay those of the model but for
    1e-4 of its largest logit (rounding; on CPUs, of any image size), and the
    MACs counted are those of the network as published, not the fewer that
    are left. What is not a layer as PyTorch has it (wrapped, hooked,
    subclassed, parametrised, quantised) is called as it is, and so is a
    feature branch that ``torch.fx`` cannot trace. A prepared model comes out
    as it is, but for other arguments.

    Args:
        model (nn.Module): A trunk, or any module that holds one and perhaps
            exits: :class:`~mmdynperceiver.core.DynPerceiver`, a classifier,
            a backbone; in eval mode, with its weights loaded.
        image_size (Sequence[int], optional): Height and width for which the
            pooling kernels are made; other sizes are computed as before.
            None makes none. Defaults to (224, 224).
        dtype (torch.dtype, optional): Precision to compute in,
            ``torch.bfloat16`` or ``torch.float16``: weights are converted
            once, images when they come, and logits are float32 again. It
            pays on processors with matrix units for it, and changes the
            logits by some hundredths of the largest one. What follows on the
            maps of a detector stays in float32. Defaults to None, that of
            the model.

    Returns:
        nn.Module: Of the same class, without gradients. Weights cannot be
        loaded into it, and it cannot be trained.

    Raises:
        RuntimeError: If the model is in training mode.
        ValueError: If there is no trunk in it, or another argument does not
            fit.

    Example:
        >>> net = DynPerceiver('resnet18', width=0.25, num_latents=16).eval()
        >>> fast = prepare_for_inference(net)
        >>> out = fast.predict(torch.rand(1, 3, 224, 224), (0.9, 0.8, 0.7))
    """
    _check(model, image_size, dtype)
    prepared = copy_model(model).requires_grad_(False)
    # Without exits someone else may want the last map.
    has_exits = any(isinstance(m, Exits) for m in model.modules())
    for module in list(prepared.modules()):
        if isinstance(module, SegmentedTrunk):
            _prepare_trunk(module, image_size, has_exits)
        elif isinstance(module, Exits):
            fold_exits(module)
    if isinstance(model, CountsMacs) and 'counted_model' not in vars(model):
        # Not registered as a part: it has no data.
        prepared.__dict__['counted_model'] = on_meta(model)
    setattr(prepared, 'train', _Untrainable(prepared))
    if dtype is not None:
        _set_precision(prepared, dtype)
    convert: Any = prepared.to
    return convert(memory_format=torch.channels_last)


def _set_precision(prepared: nn.Module, dtype: torch.dtype) -> None:
    """Convert trunk and exits; images come and logits go in float32."""
    for module in prepared.modules():
        if isinstance(module, SegmentedTrunk):
            module.to(dtype).dtype = dtype
        elif isinstance(module, Exits):
            module.to(dtype).logits_dtype = torch.float32


def _check(model: nn.Module, image_size: Any,
           dtype: Optional[torch.dtype]) -> None:
    """Refuse what cannot be prepared."""
    if image_size is not None and not (isinstance(image_size, (tuple, list))
                                       and len(image_size) == 2):
        raise ValueError(f'image_size must be height and width, such as (224, '
                         f'224), or None, got {image_size!r}')
    if dtype not in (None, torch.bfloat16, torch.float16):
        raise ValueError(f'dtype must be torch.bfloat16, torch.float16 or '
                         f'None, got {dtype!r}')
    if model.training:
        raise RuntimeError('prepare_for_inference was called in training '
                           'mode, and batch norms without their running '
                           'statistics cannot be folded: call eval() first')
    if not any(isinstance(m, SegmentedTrunk) for m in model.modules()):
        raise ValueError(f'there is no trunk in {type(model).__name__}')


class _Untrainable:
    """Stands in for ``train`` of a prepared model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, mode: bool = True) -> nn.Module:
        """Refuse training mode; eval mode is what there is."""
        if mode:
            raise RuntimeError('a model from prepare_for_inference cannot be '
                               'trained: train the one it was made of')
        return self.model


class _PointwiseConv(nn.Module):
    """A 1x1 convolution as the matrix product that it is.

    With one thread PyTorch takes small 1x1 convolutions through a path that
    copies channels-last maps into the other layout and back.

    Args:
        conv (nn.Conv2d): 1x1, of stride 1, without groups or padding.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(conv.weight.flatten(1))
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W), channels last."""
        b, c, h, w = x.shape
        # [B, C, H, W] -> [B * H * W, C], a view where channels are last
        pixels = x.permute(0, 2, 3, 1).reshape(-1, c)
        pixels = torch.mm(pixels, self.weight.t())
        if self.bias is not None:
            pixels.add_(self.bias)  # in place: a pass less than before
        return pixels.view(b, h, w, len(self.weight)).permute(0, 3, 1, 2)


def _prepare_trunk(trunk: SegmentedTrunk, image_size: Optional[Sequence[int]],
                   has_exits: bool) -> None:
    """Fold what a trunk consists of."""
    micro_batches = measure_micro_batches(trunk, image_size or (224, 224))
    trunk.stem = _fold_batch_norms(trunk.stem)
    for stage in trunk.stages:  # type: ignore[union-attr]
        _set(stage, 'conv', _fold_batch_norms(_get(stage, 'conv')))
    if isinstance(trunk, Trunk):
        fold_attention(trunk, pool_last=has_exits)
        if image_size is not None:
            fold_pooling(trunk, image_size)
    trunk.micro_batches = micro_batches


# What is no layer itself.
_HOLDERS = (nn.Module, nn.ModuleDict, nn.ModuleList, nn.Sequential)


class _Tracer(fx.Tracer):
    """Sees layers, and what is no plain call, as one."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether to look no deeper."""
        return isinstance(
            m, (StochasticDepth, _PointwiseConv)) or is_hooked(m) or any(
                kind.__module__.startswith(
                    ('torch.nn', 'torch.ao.nn')) and kind not in _HOLDERS
                for kind in type(m).__mro__)


def _fold_batch_norms(module: Any) -> Any:
    """Fold batch norms behind convolutions, whatever the module is."""
    if is_hooked(module):
        return module
    try:
        graph = _Tracer().trace(module)
    except Exception:  # its code decides what tracing it raises
        return module
    traced = fx.GraphModule(module, graph)
    layers: Dict[str, nn.Module] = dict(traced.named_modules())
    calls: Dict[Any, int] = {}
    for node in graph.nodes:
        calls[node.target] = calls.get(node.target, 0) + 1
    for node in list(graph.nodes):
        if node.op != 'call_module' or not node.args:
            continue
        layer: Any = layers[node.target]
        source = node.args[0]
        before: Any = layers.get(str(source.target)) if isinstance(
            source, fx.Node) and source.op == 'call_module' else None
        if folds(layer) and is_plain(before, nn.Conv2d, SampledConv2d):
            # A layer that is used twice cannot be changed for one use.
            if len(source.users) > 1 or calls[source.target] > 1:
                continue
            folded = fusion.fuse_conv_bn_eval(before.eval(), layer)
            layers[source.target] = folded
            owner, _, name = source.target.rpartition('.')
            setattr(traced.get_submodule(owner), name, folded)
        elif not drops_out(layer):
            continue
        node.replace_all_uses_with(source)
        graph.erase_node(node)
    traced.delete_all_unused_submodules()
    for name, layer in list(traced.named_modules()):
        if _is_pointwise(layer):
            owner, _, name = name.rpartition('.')
            _set(traced.get_submodule(owner), name, _PointwiseConv(layer))
    traced.recompile()
    return traced.requires_grad_(False)


def _is_pointwise(layer: Any) -> bool:
    """Whether a layer maps each pixel by itself."""
    return is_plain(layer, nn.Conv2d) and layer.groups == 1 and \
        layer.kernel_size == layer.stride == (1, 1) and \
        layer.padding in ((0, 0), 'valid')


def _get(module: Any, name: str) -> Any:
    """A child by its name."""
    return module.get_submodule(name)


def _set(module: Any, name: str, child: nn.Module) -> None:
    """Replace a child by its name, in any kind of container."""
    module._modules[name] = child
