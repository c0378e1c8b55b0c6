# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Several images at the same time, each with a thread of its own."""
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from typing import (Callable, Deque, Iterable, Iterator, Optional, Sequence,
                    Tuple, TypeVar)

from .threads import check_threads

__all__ = ['check_streams', 'run_in_streams']

_Item = TypeVar('_Item')
_Stream = TypeVar('_Stream')
_Result = TypeVar('_Result')

# Pieces of work that wait for each stream: while one takes long, the others
# go on.
AHEAD = 4


def check_streams(streams: int,
                  threads: Optional[int]) -> Tuple[int, Optional[int]]:
    """The number of streams, and the threads of each.

    Raises:
        ValueError: If there is no such number, or several streams are to
            have several threads.
    """
    try:
        count = check_threads(streams)
    except ValueError as error:
        raise ValueError(str(error).replace('threads', 'streams', 1)) from None
    if count == 1:
        return count, threads
    if threads not in (None, 1):
        raise ValueError(f'each of several streams has one thread, got '
                         f'streams={streams} and threads={threads}: leave '
                         f'out one of them')
    return count, 1


def run_in_streams(work: Callable[[_Item, _Stream],
                                  _Result], items: Iterable[_Item],
                   streams: Sequence[_Stream]) -> Iterator[_Result]:
    """Do a piece of work for each item, several at the same time.

    Args:
        work (Callable): Takes an item and one of the streams, which nothing
            else has meanwhile; it runs in a thread of its own.
        items (Iterable): They are taken when they are needed.
        streams (Sequence): What the work needs, as often as it is to be done
            at the same time; one alone works here.

    Yields:
        The results, in the order of the items. An error is raised in the
        place of its result, and what is not begun is not done then.
    """
    if len(streams) == 1:
        for item in items:
            yield work(item, streams[0])
        return
    free: 'SimpleQueue[_Stream]' = SimpleQueue()
    for stream in streams:
        free.put(stream)

    def run(item: _Item) -> _Result:
        stream = free.get()
        try:
            return work(item, stream)
        finally:
            free.put(stream)

    rest = iter(items)
    pool = ThreadPoolExecutor(len(streams), 'stream')
    try:
        waiting: 'Deque[Future[_Result]]' = deque(
            pool.submit(run, item)
            for item in islice(rest, AHEAD * len(streams)))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(run, item) for item in islice(rest, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
