# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run an exported network on many files, some of which may be broken."""
from contextlib import suppress
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..datasets.image_files import FILE_ERRORS, Broken
from ..io.describe import one_line
from .exported import ExportedNetwork
from .streams import run_in_streams

__all__ = ['Classified', 'classify_files']

# A file, what is prepared of it, and the milliseconds that this took.
_Ready = Tuple[str, Any, float]


class Classified(NamedTuple):
    """A batch of results, and the files that were passed over on the way.

    ``milliseconds`` are from the start of the batch, with normalised pixels,
    until its last image left; 0 without results.
    """

    results: List[Any]
    broken: List[Broken]
    milliseconds: float


_Piece = Tuple[Classified, Optional[Exception]]


def classify_files(network: ExportedNetwork,
                   paths: Sequence[str],
                   batch_size: int = 1,
                   on_broken: str = 'skip') -> Iterator[Classified]:
    """Classify files in batches, or detect in them, whatever some hold.

    A network with several streams decodes and runs as many batches at the
    same time, and leaves the places of files that cannot be read empty.

    Times are without what is done once, such as compiling a graph for a
    batch size: the first file is prepared twice, and a batch that is the
    first of its sizes runs twice.

    Args:
        network (Runner | Detector): The network.
        paths (Sequence[str]): Files of images, or of videos.
        batch_size (int): How many run together. Defaults to 1.
        on_broken (str): 'skip' goes on without a file that cannot be read;
            'raise' raises its OSError or ValueError. Defaults to 'skip'.

    Yields:
        Classified: A batch, as soon as it and those before it are done.
    """
    for path in paths[:1]:
        with suppress(*FILE_ERRORS):
            network.preprocessing(path)
    if network.more_streams:
        return _classify_in_streams(network, paths, batch_size, on_broken)
    return _classify_here(network, paths, batch_size, on_broken)


def _classify_here(network: ExportedNetwork, paths: Sequence[str],
                   batch_size: int, on_broken: str) -> Iterator[Classified]:
    """One batch after the other, full ones up to the last."""
    ready: List[_Ready] = []
    broken: List[Broken] = []
    for path in paths:
        try:
            ready.append((path, *network.prepare(path)))
        except FILE_ERRORS as error:
            if on_broken == 'raise':
                yield _run(network, network, ready, broken)
                raise
            broken.append(Broken(path, one_line(error)))
        if len(ready) == batch_size:
            yield _run(network, network, ready, broken)
            ready, broken = [], []
    if ready or broken:
        yield _run(network, network, ready, broken)


def _classify_in_streams(network: ExportedNetwork, paths: Sequence[str],
                         batch_size: int,
                         on_broken: str) -> Iterator[Classified]:
    """Several batches at the same time."""

    def run(files: Sequence[str], stream: ExportedNetwork) -> _Piece:
        ready, broken, failure = _prepare(network, files, on_broken)
        return _run(network, stream, ready, broken), failure

    batches = (
        paths[start:start + batch_size]
        for start in range(0, len(paths), batch_size))
    for done, failure in run_in_streams(run, batches,
                                        (network, *network.more_streams)):
        yield done
        if failure is not None:
            raise failure


def _prepare(
        network: ExportedNetwork, files: Sequence[str], on_broken: str
) -> Tuple[List[_Ready], List[Broken], Optional[Exception]]:
    """What is ready of a batch, and broken; the error that is to be raised
    once what is before it is done."""
    ready: List[_Ready] = []
    broken: List[Broken] = []
    for path in files:
        try:
            ready.append((path, *network.prepare(path)))
        except FILE_ERRORS as error:
            if on_broken == 'raise':
                return ready, broken, error
            broken.append(Broken(path, one_line(error)))
    return ready, broken, None


def _run(network: ExportedNetwork, stream: ExportedNetwork,
         ready: Sequence[_Ready], broken: List[Broken]) -> Classified:
    """Run what is ready of a batch."""
    if not ready:
        return Classified([], broken, 0.)
    files, prepared, spent = zip(*ready)
    outcome = _predict(network, stream, network.batch_of(prepared))
    return Classified(
        network.results(outcome, files, spent), broken,
        outcome.milliseconds.max())


def _predict(network: ExportedNetwork, stream: ExportedNetwork,
             batch: Any) -> Any:
    """Run a batch; twice, if a graph meets a size for the first time."""
    outcome = network.predict(batch, stream=stream)
    sizes = outcome.sizes()
    if not sizes <= stream.met:
        stream.met |= sizes
        # To time it alone: a monitor has seen these images.
        outcome = network.predict(batch, network.policy, stream)
    return outcome
