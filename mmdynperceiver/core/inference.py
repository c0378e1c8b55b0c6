# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The same network with less work, for prediction alone."""
import copy
from typing import Any, Dict, Optional, Sequence, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fusion
from torchvision.ops import StochasticDepth

from .attention import X2Z, Z2X
from .complexity import CountsMacs
from .exits import Exits
from .feature_branch.narrow import SampledConv2d
from .segments import SegmentedTrunk
from .trunk import Trunk

__all__ = ['prepare_for_inference']

_Module = TypeVar('_Module', bound=nn.Module)

# What does nothing in eval mode.
_ONLY_TRAINING = (nn.Dropout, nn.Identity, StochasticDepth)


@torch.no_grad()
def prepare_for_inference(
    model: _Module,
    image_size: Optional[Sequence[int]] = (224, 224)) -> _Module:
    """Copy a model and fold what does not depend on the image.

    - Batch norms go into the layer beside them.
    - The queries of the first x2z, made of the initial latents, become
      constants, and so do the kernels that sharpen and pool the maps (see
      :class:`~mmdynperceiver.core.attention.X2Z`).
    - Where exits follow, the last z2x averages its hidden layer before its
      last projection, which needs one token then instead of all. The state
      behind the last segment holds that mean (B, C, 1, 1), not the map.
    - 1x1 convolutions become the matrix products that they are.
    - Dropout and stochastic depth are removed.

    The logits stay those of the model but for rounding (1e-4), and it counts
    the MACs of the network as published, not the fewer that are left. A
    feature branch that ``torch.fx`` cannot trace keeps its batch norms.

    Args:
        model (nn.Module): A trunk, or any module that holds one and perhaps
            exits: :class:`~mmdynperceiver.core.DynPerceiver`, a classifier,
            a backbone; in eval mode, with its weights loaded.
        image_size (Sequence[int], optional): Height and width for which the
            pooling kernels are made; other sizes are computed as before.
            None makes none. Defaults to (224, 224).

    Returns:
        nn.Module: Of the same class, without gradients. Weights cannot be
        loaded into it, and it cannot be trained.

    Raises:
        RuntimeError: If the model is in training mode.
        ValueError: If there is no trunk in it.

    Example:
        >>> net = DynPerceiver('resnet18', width=0.25, num_latents=16).eval()
        >>> fast = prepare_for_inference(net)
        >>> out = fast.predict(torch.rand(1, 3, 224, 224), (0.9, 0.8, 0.7))
    """
    _check(model)
    prepared = copy.deepcopy(model).requires_grad_(False)
    # Without exits someone else may want the last map.
    has_exits = any(isinstance(m, Exits) for m in model.modules())
    for module in list(prepared.modules()):
        if isinstance(module, SegmentedTrunk):
            _prepare_trunk(module, image_size, has_exits)
        elif isinstance(module, Exits):
            _prepare_exits(module)
    if isinstance(model, CountsMacs):
        # Not registered as a part: it has no data.
        counted = copy.deepcopy(model).to('meta')
        prepared.__dict__['counted_model'] = counted
    setattr(prepared, 'train', _Untrainable(prepared))
    convert: Any = prepared.to
    return convert(memory_format=torch.channels_last)


def _check(model: nn.Module) -> None:
    """Refuse what cannot be prepared."""
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


class _Constant(nn.Module):
    """Stands in for a projection whose input is always the same."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value: Tensor
        self.register_buffer('value', value)

    def forward(self, tokens: Tensor) -> Tensor:
        """The constant, once for each sample."""
        return self.value.expand(len(tokens), -1, -1)


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
        pixels = F.linear(pixels, self.weight, self.bias)
        return pixels.view(b, h, w, -1).permute(0, 3, 1, 2)


class _PooledZ2X(nn.Module):
    """Z2X and the mean over the map, in one.

    Args:
        z2x (Z2X): Whose layers to use.
    """

    def __init__(self, z2x: Z2X) -> None:
        super().__init__()
        self.attn = z2x.attn
        self.mlp = z2x.mlp

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(B, C, H, W), (B, N, D) -> (B, C, 1, 1)."""
        # [B, C, H, W] -> [B, H * W, C]
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(tokens, z)
        hidden = self.mlp.hidden(tokens).mean(1)
        vector = tokens.mean(1) + self.mlp.fc2(hidden)
        return vector[..., None, None]


def _prepare_trunk(trunk: SegmentedTrunk, image_size: Optional[Sequence[int]],
                   has_exits: bool) -> None:
    """Fold what a trunk consists of."""
    trunk.stem = _fold_batch_norms(trunk.stem)
    for stage in trunk.stages:  # type: ignore[union-attr]
        _set(stage, 'conv', _fold_batch_norms(_get(stage, 'conv')))
    if isinstance(trunk, Trunk):
        _fix_first_queries(trunk)
        if image_size is not None:
            _fix_pooling_kernels(trunk, image_size)
        if has_exits and trunk.last_z2x is not None:
            _set(trunk, 'last_z2x', _PooledZ2X(trunk.last_z2x))


def _fix_first_queries(trunk: Trunk) -> None:
    """Project the initial latents once."""
    x2z: Any = trunk.stages[0].x2z
    if x2z is None:
        return
    queries = x2z.attn.q(x2z.attn.norm_q(trunk.latents))
    x2z.attn.norm_q = nn.Identity()
    x2z.attn.q = _Constant(queries)


def _fix_pooling_kernels(trunk: Trunk, image_size: Sequence[int]) -> None:
    """Make the pooling kernels for one size of images."""
    for stage, stride in zip(trunk.stages, trunk.strides):
        x2z: Any = stage.x2z
        step = X2Z.pooled_size * stride
        if x2z is None or any(size % step for size in image_size):
            continue
        x2z.fix_pooling_kernel(tuple(size // step for size in image_size))


def _prepare_exits(exits: Exits) -> None:
    """Fold the batch norms of the exits and drop their dropout."""
    part: Any
    for part in (exits.fkt or ()):
        part[0] = fusion.fuse_linear_bn_eval(part[0], part[1])
        part[1] = nn.Identity()
    for index, classifier in enumerate(exits.classifiers):
        if not isinstance(classifier, nn.Sequential):
            continue
        layers = [
            layer for layer in classifier
            if not isinstance(layer, _ONLY_TRAINING)
        ]
        if isinstance(layers[0], nn.BatchNorm1d):
            layers[:2] = [_fold_into_next(layers[0], layers[1])]
        exits.classifiers[index] = nn.Sequential(*layers).eval()


def _fold_into_next(norm: Any, linear: Any) -> nn.Linear:
    """One linear layer for a batch norm and the linear layer behind it."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    folded = copy.deepcopy(linear)
    folded.bias.add_(linear.weight @ shift)
    folded.weight.mul_(scale)
    return folded


class _Tracer(fx.Tracer):
    """Sees some modules as layers, not as what they do."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether to look no deeper."""
        return isinstance(
            m, (StochasticDepth, SampledConv2d)) or super().is_leaf_module(
                m, module_qualified_name)


def _fold_batch_norms(module: Any) -> Any:
    """Fold batch norms behind convolutions, whatever the module is."""
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
        if node.op != 'call_module':
            continue
        layer, source = layers[node.target], node.args[0]
        before = layers.get(str(source.target)) if isinstance(
            source, fx.Node) and source.op == 'call_module' else None
        if isinstance(layer, _BatchNorm) and isinstance(before, nn.Conv2d):
            # A layer that is used twice cannot be changed for one use.
            if len(source.users) > 1 or calls[source.target] > 1:
                continue
            folded = fusion.fuse_conv_bn_eval(before, layer)
            layers[source.target] = folded
            owner, _, name = source.target.rpartition('.')
            setattr(traced.get_submodule(owner), name, folded)
        elif not isinstance(layer, _ONLY_TRAINING):
            continue
        node.replace_all_uses_with(source)
        graph.erase_node(node)
    traced.delete_all_unused_submodules()
    for name, layer in list(traced.named_modules()):
        if _is_pointwise(layer):
            owner, _, name = name.rpartition('.')
            _set(traced.get_submodule(owner), name, _PointwiseConv(layer))
    traced.recompile()
    return traced.eval().requires_grad_(False)


def _is_pointwise(layer: Any) -> bool:
    """Whether a layer maps each pixel by itself."""
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and \
        layer.kernel_size == layer.stride == (1, 1) and \
        layer.padding in ((0, 0), 'valid')


def _get(module: Any, name: str) -> Any:
    """A child by its name."""
    return module.get_submodule(name)


def _set(module: Any, name: str, child: nn.Module) -> None:
    """Replace a child by its name, in any kind of container."""
    module._modules[name] = child
