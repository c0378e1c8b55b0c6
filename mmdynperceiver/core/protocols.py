# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the rest of the package asks of networks that leave early.

A trunk is a :class:`~mmdynperceiver.core.segments.SegmentedTrunk`.
"""
from typing import Optional, Protocol, Sequence, Tuple, TypeVar

from torch import Tensor

from .policy import ExitPolicy
from .segments import SegmentedTrunk

_Network = TypeVar('_Network')

__all__ = ['EarlyExitNetwork', 'ExitClassifiers']


class ExitClassifiers(Protocol):
    """The exits of a trunk, as :class:`~mmdynperceiver.core.Exits`."""

    num_exits: int
    num_classes: int

    def step(
            self,
            index: int,
            features: Sequence[Tensor],
            knowledge: Optional[Tensor] = None
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """Pooled vectors (B, C) of an exit -> its logits (B, K), and the
        knowledge for the exits behind."""

    def __call__(self,
                 features: Sequence[Sequence[Tensor]]) -> Tuple[Tensor, ...]:
        """Pooled vectors of all exits -> logits (B, K), shallow to deep."""


class EarlyExitNetwork(Protocol):
    """Trunk, exits and policy: DynPerceiver, or a host's model."""

    training: bool
    policy: ExitPolicy

    def eval(self: _Network) -> _Network:
        """Leave training mode, as of ``nn.Module``."""

    def exit_parts(self) -> Tuple[SegmentedTrunk, ExitClassifiers]:
        """The trunk and the exits."""

    def macs_per_exit(self,
                      input_shape: Sequence[int] = ...) -> Tuple[int, ...]:
        """MACs of one sample (3, H, W) up to each exit, cumulative."""
