# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which segment a free worker runs: the scheduler's rule, and simulation's."""
from typing import NamedTuple, Optional, Sequence

__all__ = ['Waiting', 'choose_segment']

# How many times as long as else an image waits in one place in a backlog.
BACKLOG_WAITS = 8


class Waiting(NamedTuple):
    """What waits before a segment.

    Args:
        images (int): How many images.
        full (int): How many make a full batch.
        arrived (float): When the first of them came to the service.
        entered (float): When it came to this queue.
    """

    images: int
    full: int
    arrived: float
    entered: float


def choose_segment(able: Sequence[int], queues: Sequence[Waiting], now: float,
                   wait: float) -> Optional[int]:
    """The segment that a free worker runs.

    Args:
        able (Sequence[int]): Those that can be run, in their order.
        queues (Sequence[Waiting]): What waits before each segment.
        now (float): The time.
        wait (float): After so long an image is late. In a backlog all are
            late; then full batches answer more of them, and only images that
            have waited ``BACKLOG_WAITS`` times as long in one place hurry.
    """
    backlog = queues[0].images >= 2 * queues[0].full
    for index in reversed(able):
        images, full, arrived, entered = queues[index]
        late = arrived + wait <= now and not backlog
        if images >= full or late or entered + BACKLOG_WAITS * wait <= now:
            return index
    return able[0] if able else None
