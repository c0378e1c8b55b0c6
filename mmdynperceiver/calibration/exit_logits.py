# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The logits of all exits over a data set, as they are cached."""
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..core.complexity import expected_cost
from ..core.criteria import Temperature, confidences
from .outcomes import ExitOutcomes

__all__ = ['ExitLogits']


class ExitLogits(NamedTuple):
    """What all exits say of samples, and how good it is.

    Args:
        logits (tuple[Tensor]): Logits (N, K) of each exit, on the CPU.
        labels (Tensor, optional): True classes (N,), if answers are classes.
        paths (list[str]): Files of the samples, '' where not known.
        macs (tuple[float]): Mean MACs of one sample up to each exit; empty
            where not known. Defaults to ().
        utility (Tensor, optional): What the answer of each exit is worth
            (N, num_exits), where there are no labels. Defaults to None.
    """

    logits: Tuple[Tensor, ...]
    labels: Optional[Tensor]
    paths: List[str]
    macs: Tuple[float, ...] = ()
    utility: Optional[Tensor] = None

    @classmethod
    def join(cls, parts: Sequence['ExitLogits']) -> 'ExitLogits':
        """Put parts of a data set together, at least one, in their order."""
        logits, labels, paths, macs, utility = zip(*parts)
        sizes = [len(part) for part in paths]
        return cls(
            tuple(map(torch.cat, zip(*logits))),
            None if labels[0] is None else torch.cat(labels),
            [path for part in paths for path in part],
            tuple(expected_cost(sizes, column) for column in zip(*macs)),
            None if utility[0] is None else torch.cat(utility))

    def outcomes(self,
                 criterion: str = 'max_prob',
                 temperature: Temperature = None,
                 ensemble: Any = None,
                 stopping: Any = None) -> ExitOutcomes:
        """Judge them under a criterion, one of ``ALL_CRITERIA``, as for
        :class:`~mmdynperceiver.core.ExitPolicy`.

        Raises:
            ValueError: If nothing can be learned from the samples.
        """
        if self.utility is None:
            return ExitOutcomes.of(self.logits, self.labels, self.macs,
                                   criterion, temperature, ensemble, stopping)
        return ExitOutcomes(
            confidences(self.logits, criterion, temperature), self.utility.T,
            self.macs)
