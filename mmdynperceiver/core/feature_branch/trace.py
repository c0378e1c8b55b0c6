# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Find the chain of modules that a backbone's forward pass is made of."""
import copy
from functools import partial
from typing import (Any, Callable, List, Mapping, NamedTuple, Optional,
                    Sequence, Tuple)

import torch
from torch import Tensor, nn

from ...errors import first_few

__all__ = [
    'IMAGE_SIZE', 'Call', 'FeatureMap', 'find_chain', 'run_on_meta', 'shorten'
]

# Height and width of the images that pass through. They differ, which tells
# (B, C, h, w) from (B, h, w, C); nothing is computed, so size costs nothing.
IMAGE_SIZE = (512, 768)

# A tensor at a moment: PyTorch counts its changes in place as versions.
_Moment = Tuple[int, int]


class FeatureMap(NamedTuple):
    """What the shape of a feature map says: channels, pixels of the image to
    one place in each direction, and whether it is (B, h, w, C)."""

    channels: int
    stride: int
    channels_last: bool

    @classmethod
    def read(cls, tensor: Optional[Tensor]) -> Optional['FeatureMap']:
        """Read the shape of a tensor that images of ``IMAGE_SIZE`` led to;
        None if it is no feature map."""
        if tensor is None or tensor.ndim != 4:
            return None
        _, *shape = tensor.shape
        for channels_last in (False, True):
            channels, h, w = (shape[2], *shape[:2]) if channels_last else shape
            if w <= h:
                continue
            # The difference of the sides is free of what padding adds or
            # takes away at the border.
            stride, rest = divmod(IMAGE_SIZE[1] - IMAGE_SIZE[0], w - h)
            if not rest and abs(h * stride -
                                IMAGE_SIZE[0]) < IMAGE_SIZE[0] / 4:
                return cls(channels, stride, channels_last)
        return None


class Call:
    """One call of a module, by its name, in a forward pass.

    ``calls`` are those that it led to, in their order; ``plain`` says whether
    it takes one tensor and returns one; ``start`` and ``end`` are the moments
    of ``input`` before and of ``output`` (the last of several) after the call.
    """

    def __init__(self, name: str, args: tuple, kwargs: dict) -> None:
        self.name = name
        self.calls: List['Call'] = []
        self.plain = len(args) == 1 and not kwargs
        first = args[0] if args else None
        self.input = first if isinstance(first, Tensor) else None
        self.start = _moment(self.input)
        self.output: Optional[Tensor] = None
        self.end: Optional[_Moment] = None

    def finish(self, output: Any) -> None:
        """Note what the module returned."""
        self.plain = self.plain and isinstance(output, Tensor)
        if isinstance(output, Mapping):
            output = tuple(output.values())
        if isinstance(output, (tuple, list)) and output:
            output = output[-1]  # the deepest of several feature maps
        self.output = output if isinstance(output, Tensor) else None
        self.end = _moment(self.output)

    def links(self) -> List['Call']:
        """The calls inside this one that lead from its input to its output.

        A link takes the very tensor that the link before returned, not changed
        in between, so running the links is running the module.
        """
        links: List['Call'] = []
        wanted = self.end
        for call in reversed(self.calls):
            if wanted is not None and wanted == call.end:
                links.insert(0, call)
                wanted = call.start
        if not links or wanted is None or wanted != self.start:
            place = f'before {links[0].name!r}' if links else 'at its end'
            raise ValueError(f'{place} it does more than to call one module '
                             f'after the other')
        return links


def _moment(tensor: Optional[Tensor]) -> Optional[_Moment]:
    """What identifies a tensor and its content while both live."""
    return None if tensor is None else (id(tensor), tensor._version)


def run_on_meta(module: nn.Module, images: Tensor) -> Any:
    """Run a module on images, both on the meta device, or say why not."""
    try:
        with torch.no_grad():
            return module(images)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        size = 'x'.join(map(str, images.shape[2:]))
        raise ValueError(
            f'{type(module).__name__} does not run on images of {size} pixels '
            f'on the meta device, where the feature branch is measured; it '
            f'has to take images of any size: {error}') from error


def _trace(backbone: nn.Module, training: bool) -> Call:
    """Record the calls of all modules in one forward pass."""
    root = Call('', (), {})
    stack = [root]

    def enter(name: str, _: nn.Module, args: tuple, kwargs: dict) -> None:
        call = Call(name, args, kwargs)
        stack[-1].calls.append(call)
        stack.append(call)

    def leave(_: nn.Module, args: tuple, output: Any) -> None:
        stack.pop().finish(output)

    clone = copy.deepcopy(backbone).to('meta')
    clone.train(training)
    frozen = [
        name for name, module in clone.named_modules()
        if module.training != training
    ]
    if frozen:
        raise ValueError(
            f'{type(backbone).__name__} keeps {shorten(frozen, 3)} in eval '
            f'mode, which its parts would forget: build it without '
            f'frozen_stages (and with norm_eval=False), and give these to the '
            f'backbone that it becomes a branch of')
    hooked = [
        name or 'the backbone itself'
        for name, module in clone.named_modules() if module._modules and (
            module._forward_hooks or module._forward_pre_hooks)
    ]
    if hooked:
        raise ValueError(
            f'{type(backbone).__name__} has hooks at {shorten(hooked, 3)}, '
            f'which its parts would forget: register them at the parts')
    for name, module in clone.named_modules():
        module.register_forward_pre_hook(
            partial(enter, name), with_kwargs=True)
        module.register_forward_hook(leave)
    run_on_meta(clone, torch.empty(2, 3, *IMAGE_SIZE, device='meta'))
    return root.calls[0]


def _unfold(call: Call, too_coarse: Callable[[Call], bool]) -> List[Call]:
    """The links of a call, cut as finely as asked and as possible."""
    if call.name and call.plain and not too_coarse(call):
        return [call]
    try:
        links = call.links()
    except ValueError:
        if call.name and call.plain:
            return [call]
        raise
    return [part for link in links for part in _unfold(link, too_coarse)]


def find_chain(backbone: nn.Module, too_coarse: Callable[[Call],
                                                         bool]) -> List[Call]:
    """The modules that lead one after the other to the last output of a
    backbone, cut further where they are too coarse.

    Both modes are traced, because a step such as a functional dropout may
    exist in one of them alone.

    Raises:
        ValueError: If the backbone is not such a chain.
    """
    name = type(backbone).__name__
    chains = []
    for training in (True, False):
        root = _trace(backbone, training)
        if FeatureMap.read(root.output) is None:
            shape = None if root.output is None else tuple(root.output.shape)
            raise ValueError(
                f'{name} must return a feature map (B, C, h, w), got the '
                f'shape {shape} for images of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]} '
                f'pixels: leave out its pooling and its classifier '
                f'(ConvNeXt of MMPretrain: gap_before_final_norm=False)')
        try:
            chains.append(_unfold(root, too_coarse))
        except ValueError as error:
            raise ValueError(
                f'{name} cannot be cut into stages: {error}. Cut it by hand, '
                f'with feature_branch_from_stages') from error
    training_names, names = ([call.name for call in chain] for chain in chains)
    if training_names != names:
        raise ValueError(
            f'{name} cannot be cut into stages: in training it runs '
            f'{shorten(training_names)}, in evaluation {shorten(names)}. Cut '
            f'it by hand, with feature_branch_from_stages')
    return chains[1]


def shorten(names: Sequence[str], limit: int = 12) -> str:
    """Names for a message, not too many."""
    return first_few(names, limit, lambda name: name or '(itself)')
