# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What an exported network is worth on test images, on this machine."""
import time
from pathlib import Path
from statistics import mean
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..deploy import Policy, Runner
from ..deploy.threads import available_threads
from ..exit_settings import NEVER
from ..progress import track

__all__ = ['Judged', 'judge', 'judge_twin']

# Test images that are run one by one.
TIMED = 200
BATCH = 32


class Judged(NamedTuple):
    """Mean milliseconds of an image, from normalised pixels to its class.

    Args:
        ms (float): Leaving early.
        last_ms (float): Running all exits.
        number (int): How many images were run.
        threads (int): Threads of the runtime.
    """

    ms: float
    last_ms: float
    number: int
    threads: int


def judge(exported: Path, images: Sequence[Tuple[str, int]],
          threads: Optional[int]) -> Judged:
    """Run test images one by one, with and without leaving early, in turn.

    Args:
        exported (Path): What :func:`export_network` wrote.
        images (Sequence[tuple]): Paths and labels.
        threads (int, optional): Of the runtime. Defaults to all cores.
    """
    runner = Runner.load(exported, threads=threads)
    never = Policy(runner.manifest.num_exits,
                   (NEVER, ) * (runner.manifest.num_exits - 1))
    images = _spread(images)
    early, last = _mean_ms(runner, images, (runner, runner.policy),
                           (runner, never))
    return Judged(early, last, len(images), threads or available_threads())


def judge_twin(exported: Path, other: Path, images: Sequence[Tuple[str, int]],
               threads: Optional[int]) -> Dict[str, float]:
    """Accuracy, MACs and mean milliseconds of the static twin.

    Args:
        exported (Path): The twin, exported.
        other (Path): The network itself, which runs in turn with it.
        images (Sequence[tuple]): Paths and labels of all test images.
        threads (int, optional): Of the runtime.

    Returns:
        dict: ``accuracy``, ``macs``, ``ms``, and of the network ``own_ms``.
    """
    runner, own = (
        Runner.load(folder, threads=threads) for folder in (exported, other))
    ms, own_ms = _mean_ms(runner, _spread(images),
                          *((one, one.policy) for one in (runner, own)))
    right = 0
    for start in track(range(0, len(images), BATCH), 'testing'):
        paths, labels = zip(*images[start:start + BATCH])
        right += sum(result.label == label
                     for result, label in zip(runner(paths, BATCH), labels))
    return dict(
        accuracy=right / len(images),
        macs=float(runner.manifest.macs_per_exit[-1]),
        ms=ms,
        own_ms=own_ms)


def _spread(images: Sequence[Tuple[str, int]]) -> List[Tuple[str, int]]:
    """Some images from the first to the last."""
    return list(images[::max(1, len(images) // TIMED)][:TIMED])


def _mean_ms(runner: Runner, images: Sequence[Tuple[str, int]], *compared:
             Tuple[Runner, Policy]) -> List[float]:
    """Mean milliseconds of an image in each, in turn, as one prepares it."""
    inputs = [runner.prepare(path)[0] for path, _ in images]
    return [
        mean(times)
        for times in zip(*([_milliseconds(*each, image) for each in compared]
                           for image in track(inputs, 'timing')))
    ]


def _milliseconds(runner: Runner, policy: Policy, image: np.ndarray) -> float:
    """How long one image takes until it has left: the better of two runs,
    since what else the machine does only makes it longer."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        runner.predict(image[None], policy)
        times.append(1000 * (time.perf_counter() - start))
    return min(times)
