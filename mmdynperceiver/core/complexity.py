# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Multiply-adds (MACs) up to each exit."""
import copy
from typing import Sequence, Tuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .early_exit import Carried, run_step

__all__ = ['CountsMacs', 'expected_macs', 'macs_per_exit']


def macs_per_exit(trunk: nn.Module, exits: nn.Module,
                  input_shape: Sequence[int]) -> Tuple[int, ...]:
    """Count the MACs of one image up to and including each exit.

    Convolutions and matrix products count, attention's two included; 1 MAC
    is one multiply-add. Nothing is computed: the count runs on the meta
    device.

    Args:
        trunk (nn.Module): The two branches.
        exits (nn.Module): The classifiers.
        input_shape (Sequence[int]): (3, H, W) of the image.

    Returns:
        tuple[int]: Cumulative MACs, shallow to deep.

    Raises:
        ValueError: If the shape is not that of an image or is too small.
    """
    if len(input_shape) != 3:
        raise ValueError(
            f'input_shape must be (3, H, W), got {tuple(input_shape)}')
    trunk, exits = (
        copy.deepcopy(module).to('meta').eval().requires_grad_(False)
        for module in (trunk, exits))
    images = torch.empty(1, *input_shape, device='meta')
    carried = Carried(trunk.begin(images))
    totals = []
    # The counter sees matrix products, not fused attention kernels.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), \
            FlopCounterMode(display=False) as counter:
        for index in range(trunk.num_segments):
            carried, _ = run_step(trunk, exits, index, carried)
            totals.append(counter.get_total_flops() // 2)
    return tuple(totals)


class CountsMacs:
    """Mixin: ``macs_per_exit`` for a model that joins a trunk and exits."""

    def exit_parts(self) -> Tuple[nn.Module, nn.Module]:
        """The trunk and the exits."""
        raise NotImplementedError

    def macs_per_exit(
            self,
            input_shape: Sequence[int] = (3, 224, 224)) -> Tuple[int, ...]:
        """MACs of one image up to each exit, cumulative.

        Args:
            input_shape (Sequence[int]): (3, H, W). Defaults to
                (3, 224, 224).

        Returns:
            tuple[int]: One count for each exit; 1 MAC is one multiply-add.
        """
        counts = self.__dict__.setdefault('_macs', {})
        key = tuple(input_shape)
        if key not in counts:
            counts[key] = macs_per_exit(*self.exit_parts(), key)
        return counts[key]


def expected_macs(exit_fractions: Sequence[float],
                  macs: Sequence[float]) -> float:
    """Mean MACs of one sample.

    Args:
        exit_fractions (Sequence[float]): Share of samples at each exit.
        macs (Sequence[float]): Cumulative MACs of each exit.
    """
    return float(
        sum(share * cost for share, cost in zip(exit_fractions, macs)))
