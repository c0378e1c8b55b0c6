# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A queue of samples whose tensors stay in memory that is used again."""
from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Sequence

import numpy as np

__all__ = ['RowRing', 'Taken']


class Taken(NamedTuple):
    """The oldest samples of a queue; their memory is theirs until freed.

    Args:
        tensors (dict[str, ndarray]): Their tensors, a row for each.
        entries (list): What belongs to each of them.
        span (list[int]): Their number in memory, and whether they are free.
    """

    tensors: Dict[str, np.ndarray]
    entries: List[Any]
    span: List[int]


class RowRing:
    """First in, first out, of a fixed number of samples.

    Rows are written once and taken as views, in one piece unless they stand
    on both ends of the memory. It is not locked.

    Args:
        capacity (int): Most samples: those that wait, those that are taken
            and not yet free, and those that room is kept for.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.entries: Deque[Any] = deque()
        self._buffers: Dict[str, np.ndarray] = {}
        self._spans: Deque[List[int]] = deque()
        self._start = 0  # of the rows that wait
        self._used = 0
        self._kept = 0

    def __len__(self) -> int:
        """How many samples wait."""
        return len(self.entries)

    @property
    def room(self) -> int:
        """How many more samples fit."""
        return self.capacity - self._used - self._kept

    def keep(self, count: int) -> None:
        """Keep room for samples to come; a negative count gives it back."""
        self._kept += count

    def put(self, tensors: Dict[str, np.ndarray], rows: Any,
            entries: Sequence[Any]) -> None:
        """Add the samples of some rows, given by their numbers."""
        start = (self._start + len(self.entries)) % self.capacity
        first = min(len(rows), self.capacity - start)
        for name, value in tensors.items():
            buffer = self._buffers.get(name)
            if buffer is None:
                buffer = np.empty((self.capacity, *value.shape[1:]),
                                  value.dtype)
                self._buffers[name] = buffer
            # Written where it stays; 'clip' needs no copy between.
            np.take(
                value,
                rows[:first],
                0,
                out=buffer[start:start + first],
                mode='clip')
            if first < len(rows):
                np.take(
                    value,
                    rows[first:],
                    0,
                    out=buffer[:len(rows) - first],
                    mode='clip')
        self.entries.extend(entries)
        self._used += len(rows)

    def take(self, count: int) -> Taken:
        """Take the oldest samples, at most as many as wait."""
        count = min(count, len(self.entries))
        start, end = self._start, self._start + count
        if end <= self.capacity:
            tensors = {
                name: buffer[start:end]
                for name, buffer in self._buffers.items()
            }
        else:
            tensors = {
                name:
                np.concatenate([buffer[start:], buffer[:end - self.capacity]])
                for name, buffer in self._buffers.items()
            }
        self._start = end % self.capacity
        span = [count, False]
        self._spans.append(span)
        return Taken(tensors, [self.entries.popleft() for _ in range(count)],
                     span)

    def free(self, taken: Taken) -> None:
        """Let the memory of samples be used again."""
        taken.span[1] = True
        while self._spans and self._spans[0][1]:
            self._used -= self._spans.popleft()[0]
