# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Multiply-adds (MACs) up to each exit."""
import copy
from typing import Any, Callable, Iterable, Iterator, Sequence, Tuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .early_exit import Carried, run_step
from .exits import Exits
from .segments import SegmentedTrunk

__all__ = ['CountsMacs', 'count_macs', 'expected_macs', 'macs_per_exit']

_Module = TypeVar('_Module', bound=nn.Module)


def macs_per_exit(trunk: SegmentedTrunk, exits: Exits,
                  input_shape: Sequence[int]) -> Tuple[int, ...]:
    """Count the MACs of one sample up to and including each exit.

    Convolutions and matrix products count, attention's two included; 1 MAC
    is one multiply-add. Nothing is computed: the count runs on the meta
    device, where attention is the plain matrix products that are counted.

    Args:
        trunk (SegmentedTrunk): The network without its exits.
        exits (Exits): The classifiers.
        input_shape (Sequence[int]): (3, H, W) of an image, or (M, 3, H, W)
            of the M images that are one sample, such as a video.

    Returns:
        tuple[int]: Cumulative MACs, shallow to deep.

    Raises:
        ValueError: If the shape is not that of an image or of several, or
            is too small.
    """
    both = nn.ModuleList([trunk, exits])
    return count_macs(both, _exits, input_shape)


def _exits(both: Any, images: Tensor) -> Iterator[Tensor]:
    """Run to one exit after the other."""
    trunk, exits = both
    carried = Carried(trunk.begin(images))
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

    Returns:
        tuple[int]: Cumulative MACs, one count for each step.

    Raises:
        ValueError: If the shape is not that of an image or is too small.
    """
    if len(input_shape) not in (3, 4):
        raise ValueError(f'input_shape must be (3, H, W) of an image or (M, '
                         f'3, H, W) of a video, got {tuple(input_shape)}')
    module = _on_meta(module)
    shape = (1, *input_shape) if len(input_shape) == 3 else input_shape
    images = torch.empty(*shape, device='meta')
    totals = []
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for _ in steps(module, images):
            totals.append(counter.get_total_flops() // 2)
    return tuple(totals)


def _on_meta(module: _Module) -> _Module:
    """A copy without data, for counting."""
    return copy.deepcopy(module).to('meta').eval().requires_grad_(False)


class CountsMacs:
    """Mixin: ``macs_per_exit`` for a model that joins a trunk and exits.

    Attributes:
        counted_model (CountsMacs): What to count instead, in a model whose
            parts were folded.
    """

    def exit_parts(self) -> Tuple[SegmentedTrunk, Exits]:
        """The trunk and the exits."""
        raise NotImplementedError

    def macs_per_exit(
        self, input_shape: Sequence[int] = (3, 224, 224)) -> Tuple[int, ...]:
        """MACs of one sample up to each exit, cumulative.

        Args:
            input_shape (Sequence[int]): (3, H, W) of an image or (M, 3, H,
                W) of a video. Defaults to (3, 224, 224).

        Returns:
            tuple[int]: One count for each exit; 1 MAC is one multiply-add.
        """
        counts = self.__dict__.setdefault('_macs', {})
        key = tuple(input_shape)
        if key not in counts:
            model = self.__dict__.get('counted_model', self)
            counts[key] = model.count_macs(key)
        return counts[key]

    def count_macs(self, input_shape: Sequence[int]) -> Tuple[int, ...]:
        """Count what ``macs_per_exit`` returns, which keeps it.

        Args:
            input_shape (Sequence[int]): (3, H, W).
        """
        return macs_per_exit(*self.exit_parts(), input_shape)


def expected_macs(exit_fractions: Sequence[float],
                  macs: Sequence[float]) -> float:
    """Mean MACs of one sample.

    Args:
        exit_fractions (Sequence[float]): Share of samples at each exit.
        macs (Sequence[float]): Cumulative MACs of each exit.
    """
    return float(
        sum(share * cost for share, cost in zip(exit_fractions, macs)))
