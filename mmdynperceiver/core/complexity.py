# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Multiply-adds (MACs) up to each exit."""
import math
import threading
import weakref
from functools import lru_cache
from typing import (Any, Callable, Dict, Iterable, Iterator, List, Optional,
                    Sequence, Tuple, TypeVar)

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .accelerate.copies import NeedsDataError, called_without_hooks, on_meta
from .early_exit import LoopState, run_step
from .protocols import ExitClassifiers
from .segments import SegmentedTrunk

__all__ = ['CountsMacs', 'count_macs', 'expected_cost', 'macs_per_exit']

_Module = TypeVar('_Module', bound=nn.Module)

# Sizes of images of which a model keeps the counts.
_KEPT_SIZES = 64

aten = torch.ops.aten
# Results that are shaped as the first argument, one or three of them.
_ONE_LIKE_FIRST = {
    getattr(aten, name)
    for name in ('_safe_softmax', '_softmax', 'gelu', 'hardsigmoid',
                 'hardswish', 'relu', 'sigmoid', 'silu')
    if hasattr(aten, name)  # torch 2.4 has no _safe_softmax
}
_THREE_LIKE_FIRST = {
    aten.native_batch_norm, aten.native_layer_norm,
    aten._native_batch_norm_legit_no_training
}
# The same where the second argument, a tensor or a number, is no larger.
_ONE_LIKE_BOTH = {aten.add, aten.mul}


def _shaped(operator: Any, args: Any) -> Any:
    """The results of frequent operators, None for others, without what PyTorch
    checks first, which on the meta device takes nine tenths of a pass."""
    if operator in _ONE_LIKE_FIRST or operator in _ONE_LIKE_BOTH and \
            args[0].is_floating_point() and \
            getattr(args[1], 'shape', args[0].shape) == args[0].shape:
        return torch.empty_like(args[0])
    if operator in _THREE_LIKE_FIRST:
        return torch.empty_like(args[0]), *args[0].new_empty(2, 0)
    if operator is aten.addmm:
        return args[1].new_empty(len(args[1]), args[2].shape[1])
    return None


class _Counter(TorchDispatchMode):
    """Adds up the MACs of operators on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(self,
                           func: Any,
                           types: Any,
                           args: Any = (),
                           kwargs: Optional[Dict[str, Any]] = None) -> Any:
        """Count an operator, and make its results."""
        operator, kwargs = func._overloadpacket, kwargs or {}
        out = _shaped(operator, args)
        if out is None:
            out = func(*args, **kwargs)
        if operator in flop_registry:
            self.macs += flop_registry[operator](
                *args, **kwargs, out_val=out) // 2
        return out


def macs_per_exit(trunk: SegmentedTrunk, exits: ExitClassifiers,
                  input_shape: Sequence[int]) -> Tuple[int, ...]:
    """Count the MACs of one sample up to and including each exit.

    Convolutions and matrix products count, attention's two included; 1 MAC is
    one multiply-add. Nothing is computed: the count runs on the meta device,
    where attention is the plain matrix products that are counted.

    Args:
        trunk (SegmentedTrunk): The network without its exits.
        exits (ExitClassifiers): The classifiers.
        input_shape (Sequence[int]): (3, H, W) of an image, or (M, 3, H, W)
            of the M images that are one sample, such as a video.

    Raises:
        ValueError: If the shape does not fit, or a module cannot run so.
    """
    parts: Any = dict(trunk=trunk, exits=exits)
    both = nn.ModuleDict(parts)
    both.training = trunk.training
    return count_macs(both, _exits, input_shape)


def _exits(both: Any, images: Tensor) -> Iterator[Tensor]:
    """Run to one exit after the other."""
    trunk, exits = both['trunk'], both['exits']
    carried = LoopState(trunk.initial_state(images))
    for index in range(trunk.num_segments):
        carried, logits = run_step(trunk, exits, index, carried)
        yield logits


def count_macs(module: _Module, steps: Callable[[_Module, Tensor],
                                                Iterable[Any]],
               input_shape: Sequence[int]) -> Tuple[int, ...]:
    """Count the MACs of one sample up to each step; see `macs_per_exit`.

    Args:
        module (nn.Module): What runs; a copy without data is used.
        steps (Callable): Takes the module and images (M, 3, H, W), and gives
            an item for each step once its work is done.
        input_shape (Sequence[int]): As for ``macs_per_exit``.
    """
    if len(input_shape) not in (3, 4):
        raise ValueError(f'input_shape must be (3, H, W) of an image or (M, '
                         f'3, H, W) of a video, got {tuple(input_shape)}')
    shape = (1, *input_shape) if len(input_shape) == 3 else input_shape
    totals = []
    # In inference mode some operators would hide what they consist of.
    with torch.inference_mode(False), torch.no_grad():
        structure = module if _is_structure(module) else _structure(module)
        images = torch.empty(*shape, device='meta')
        try:
            with _COUNTING, called_without_hooks(structure), \
                    _Counter() as counter:
                for _ in steps(structure, images):
                    totals.append(counter.macs)
        except NeedsDataError as error:
            raise ValueError(f'the MACs cannot be counted: {error}') from error
    return tuple(totals)


# Others wait: modules are called in another way meanwhile.
_COUNTING = threading.Lock()


def _structure(module: _Module) -> _Module:
    """A copy without data, for images in single precision."""
    structure = on_meta(module)
    for part in structure.modules():
        if isinstance(part, SegmentedTrunk):
            part.dtype = None
    return structure


def _is_structure(module: nn.Module) -> bool:
    """Whether a module is such a copy."""
    return all(
        tensor.is_meta for tensors in (module.parameters(), module.buffers())
        for tensor in tensors) and not any(m.training
                                           for m in module.modules())


class CountsMacs:
    """Mixin: ``macs_per_exit`` for a model that joins a trunk and exits.

    Attributes:
        counted_model (CountsMacs): What to count instead, in a model whose
            parts were folded.
    """

    def exit_parts(self) -> Tuple[SegmentedTrunk, ExitClassifiers]:
        """The trunk and the exits."""
        raise NotImplementedError

    def macs_per_exit(
        self, input_shape: Sequence[int] = (3, 224, 224)) -> Tuple[int, ...]:
        """MACs (multiply-adds) of one sample, an image (3, H, W) or a video
        (M, 3, H, W), up to each exit, cumulative.

        Layers count as they are, wrapped or exchanged ones too; hooks, and
        functions in place of a ``forward``, are not called and do not count.
        The counts of the last 64 sizes are kept.
        """
        counts = self.__dict__.get('_macs')
        if counts is None or not counts.fits(self):
            counts = self.__dict__['_macs'] = _Counts(self)
        return counts.of_size(tuple(input_shape))

    def count_macs(self, input_shape: Tuple[int, ...]) -> Tuple[int, ...]:
        """Count what ``macs_per_exit`` returns, which keeps it."""
        return macs_per_exit(*self.exit_parts(), input_shape)


class _Counts:
    """The MACs of a model, for the sizes of images that came last.

    A model of the same structure, without data, is what is counted: it is made
    once, and again after parts of the model have been exchanged.
    """

    def __init__(self, model: Any) -> None:
        self.parts = [weakref.ref(part) for part in _parts(model)]
        self.structure: Any = model.__dict__.get('counted_model')
        if self.structure is None:
            self.structure = _structure(model)
        self.of_size = lru_cache(_KEPT_SIZES)(self.structure.count_macs)

    def fits(self, model: Any) -> bool:
        """Whether the model still consists of the same parts."""
        parts = _parts(model)
        return len(parts) == len(self.parts) and all(
            known() is part for known, part in zip(self.parts, parts))

    def __reduce__(self) -> Tuple[Any, ...]:
        """A copy of the model counts for itself."""
        return type(None), ()


def _parts(model: nn.Module) -> List[nn.Module]:
    """All modules of a model, each as often as it is used."""
    parts = [model]
    for part in parts:
        parts.extend(filter(None, part._modules.values()))
    return parts


def expected_cost(shares: Sequence[float], costs: Sequence[float]) -> float:
    """Mean cost of one sample, or the mean of anything else by shares.

    Args:
        shares (Sequence[float]): Share of samples at each exit, or their
            number.
        costs (Sequence[float]): Cumulative cost of each exit, such as MACs.
    """
    total = math.fsum(share * cost for share, cost in zip(shares, costs))
    return total / math.fsum(shares)
