# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A network in torch behind the interface of exported segments."""
from contextlib import ExitStack
from typing import Dict, Sequence, Tuple

import numpy as np
import torch

from .early_exit import LoopState, run_step
from .protocols import ExitClassifiers
from .segments import SegmentedTrunk

__all__ = ['NumpySegments']


class NumpySegments:
    """Segments that take and leave arrays, as an exported runner's do.

    So a network that is not exported can be served by
    :class:`mmdynperceiver.serve.scheduler.StagedScheduler`; the arrays are
    in the processor's memory between segments.

    Args:
        trunk (SegmentedTrunk): The network without its exits, in evaluation
            mode.
        exits (ExitClassifiers): The classifiers.
        size (Sequence[int]): Height and width of the images.
    """

    def __init__(self, trunk: SegmentedTrunk, exits: ExitClassifiers,
                 size: Sequence[int]) -> None:
        self.trunk = trunk
        self.exits = exits
        self.image_shape: Tuple[int, ...] = (3, *size)
        self._device = next(trunk.parameters()).device

    @property
    def num_exits(self) -> int:
        """Number of exits, and of segments."""
        return self.trunk.num_segments

    @torch.inference_mode()
    def step(self, index: int, tensors: Dict[str, np.ndarray],
             held: ExitStack) -> np.ndarray:
        """Run one segment; its logits (B, K).

        Args:
            index (int): Its number.
            tensors (dict[str, ndarray]): ``images``, or what the segment
                before left here. What it leaves is put in their place.
            held (ExitStack): Not used: the arrays are nobody else's.
        """
        given = {
            name:
            torch.from_numpy(np.ascontiguousarray(value)).to(self._device)
            for name, value in tensors.items()
        }
        if 'images' in given:
            state = self.trunk.initial_state(given['images'])
        else:
            kind = self.trunk.state_type
            state = kind(*map(given.get, kind._fields))
        carried = LoopState(state, given.get('knowledge'))
        carried, logits = run_step(self.trunk, self.exits, index, carried)
        made = dict(carried.state._asdict(), knowledge=carried.knowledge)
        tensors.clear()
        tensors.update((name, value.cpu().numpy())
                       for name, value in made.items() if value is not None)
        return logits.cpu().numpy()
