# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Classify many image files, some of which may be broken."""
from contextlib import suppress
from typing import (Any, Callable, Iterator, List, NamedTuple, Optional,
                    Sequence, Tuple)

import numpy as np

from ..datasets.image_files import FILE_ERRORS, Broken
from ..io.describe import one_line
from .runner import Outcome, Result, Runner
from .sessions import bucket
from .streams import run_in_streams

__all__ = ['Classified', 'classify_files', 'in_batches']

# A file with its pixels and the milliseconds that they took.
_Ready = Tuple[str, np.ndarray, float]


class Classified(NamedTuple):
    """A batch of results, and the files that were passed over on the way.

    ``milliseconds`` are from the start of the batch, with normalised pixels,
    until its last image left; 0 without results.
    """

    results: List[Result]
    broken: List[Broken]
    milliseconds: float


_Piece = Tuple[Classified, Optional[Exception]]


def classify_files(runner: Runner,
                   paths: Sequence[str],
                   batch_size: int = 1,
                   on_broken: str = 'skip') -> Iterator[Classified]:
    """Classify files in batches, whatever some of them hold.

    A runner with several streams decodes and runs as many batches at the same
    time, and leaves the places of files that cannot be read empty.

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
        Classified: A batch, as soon as it and those before it are done.
    """
    if runner.more_streams:
        return _classify_in_streams(runner, paths, batch_size, on_broken)
    return _classify_here(runner, paths, batch_size, on_broken)


def _classify_here(runner: Runner, paths: Sequence[str], batch_size: int,
                   on_broken: str) -> Iterator[Classified]:
    """One batch after the other, full ones up to the last."""
    warm = False

    def prepare(path: str) -> _Ready:
        nonlocal warm
        if not warm:
            runner.preprocessing(path)
            warm = True
        return path, *runner.prepare(path)

    def run(ready: Sequence[_Ready], broken: List[Broken]) -> Classified:
        return _run(runner, runner, ready, broken)

    return in_batches(paths, prepare, run, batch_size, on_broken)


def in_batches(paths: Sequence[str], prepare: Callable[[str], Any],
               run: Callable[[List[Any], List[Broken]], Classified],
               batch_size: int, on_broken: str) -> Iterator[Classified]:
    """Prepare files and run them in batches, full ones up to the last.

    Args:
        paths (Sequence[str]): The files.
        prepare (Callable): What is ready to run of a file.
        run (Callable): Runs what is ready, perhaps nothing, and hands on the
            files that were broken on the way.
        batch_size, on_broken: As of :func:`classify_files`.
    """
    ready: List[Any] = []
    broken: List[Broken] = []
    for path in paths:
        try:
            ready.append(prepare(path))
        except FILE_ERRORS as error:
            if on_broken == 'raise':
                yield run(ready, broken)
                raise
            broken.append(Broken(path, one_line(error)))
        if len(ready) == batch_size:
            yield run(ready, broken)
            ready, broken = [], []
    if ready or broken:
        yield run(ready, broken)


def _classify_in_streams(runner: Runner, paths: Sequence[str], batch_size: int,
                         on_broken: str) -> Iterator[Classified]:
    """Several batches at the same time."""
    for path in paths[:1]:
        with suppress(*FILE_ERRORS):
            runner.preprocessing(path)

    def run(files: Sequence[str], stream: Runner) -> _Piece:
        ready, broken, failure = _prepare(runner, files, on_broken)
        return _run(runner, stream, ready, broken), failure

    batches = (
        paths[start:start + batch_size]
        for start in range(0, len(paths), batch_size))
    for done, failure in run_in_streams(run, batches,
                                        (runner, *runner.more_streams)):
        yield done
        if failure is not None:
            raise failure


def _prepare(
        runner: Runner, files: Sequence[str], on_broken: str
) -> Tuple[List[_Ready], List[Broken], Optional[Exception]]:
    """What is ready of a batch, and broken; the error that is to be raised
    once what is before it is done."""
    ready: List[_Ready] = []
    broken: List[Broken] = []
    for path in files:
        try:
            ready.append((path, *runner.prepare(path)))
        except FILE_ERRORS as error:
            if on_broken == 'raise':
                return ready, broken, error
            broken.append(Broken(path, one_line(error)))
    return ready, broken, None


def _run(runner: Runner, stream: Runner, ready: Sequence[_Ready],
         broken: List[Broken]) -> Classified:
    """Run what is ready of a batch."""
    if not ready:
        return Classified([], broken, 0.)
    files, pixels, spent = zip(*ready)
    outcome = _predict(runner, stream, np.stack(pixels))
    return Classified(
        runner.results(outcome, files, spent), broken,
        outcome.milliseconds.max())


def _predict(runner: Runner, stream: Runner, batch: np.ndarray) -> Outcome:
    """Run a batch; twice, if a segment meets a size for the first time."""
    outcome = runner.predict(batch, stream=stream)
    sizes = {(index, bucket(int((outcome.exit_index >= index).sum())))
             for index in range(int(outcome.exit_index.max()) + 1)}
    if not sizes <= stream.met:
        stream.met |= sizes
        # To time it alone: a monitor has seen these images.
        outcome = runner.predict(batch, runner.policy, stream)
    return outcome
