# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Classify many image files, some of which may be broken."""
from typing import Iterator, List, NamedTuple, Sequence, Set, Tuple

import numpy as np

from ..datasets.image_files import FILE_ERRORS, Broken
from ..io.describe import one_line
from .runner import Outcome, Result, Runner
from .sessions import bucket

__all__ = ['Classified', 'classify_files']


class Classified(NamedTuple):
    """A batch of results, and the files that were passed over on the way.

    ``milliseconds`` are from the start of the batch, with normalised pixels,
    until its last image left; 0 without results.
    """

    results: List[Result]
    broken: List[Broken]
    milliseconds: float


def classify_files(runner: Runner,
                   paths: Sequence[str],
                   batch_size: int = 1,
                   on_broken: str = 'skip') -> Iterator[Classified]:
    """Classify files in batches, whatever some of them hold.

    Times are without what is done once, such as compiling a graph for a
    batch size: the first file is prepared twice, and a batch that is the
    first of its sizes runs twice.

    Args:
        runner (Runner): The network.
        paths (Sequence[str]): Image files.
        batch_size (int): How many run together. Defaults to 1.
        on_broken (str): 'skip' goes on without a file that cannot be read;
            'raise' raises its OSError or ValueError. Defaults to 'skip'.

    Yields:
        Classified: A batch, as soon as it is done.
    """
    seen: Set[Tuple[int, int]] = set()
    ready: List[Tuple[str, np.ndarray, float]] = []
    broken: List[Broken] = []

    def run() -> Classified:
        done = Classified([], broken[:], 0.)
        if ready:
            files, pixels, spent = zip(*ready)
            outcome = _predict(runner, np.stack(pixels), seen)
            results = runner.results(outcome, files, spent)
            done = Classified(results, broken[:], outcome.milliseconds.max())
        ready.clear()
        broken.clear()
        return done

    warm = False
    for path in paths:
        try:
            if not warm:
                runner.preprocessing(path)
                warm = True
            ready.append((path, *runner.prepare(path)))
        except FILE_ERRORS as error:
            if on_broken == 'raise':
                yield run()
                raise
            broken.append(Broken(path, one_line(error)))
        if len(ready) == batch_size:
            yield run()
    if ready or broken:
        yield run()


def _predict(runner: Runner, batch: np.ndarray,
             seen: Set[Tuple[int, int]]) -> Outcome:
    """Run a batch; twice, if a segment meets a size for the first time."""
    outcome = runner.predict(batch)
    sizes = {(index, bucket(int((outcome.exit_index >= index).sum())))
             for index in range(int(outcome.exit_index.max()) + 1)}
    if not sizes <= seen:
        seen |= sizes
        outcome = runner.predict(batch)
    return outcome
