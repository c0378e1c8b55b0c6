# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Images per second from files, decoding included."""
import os
import statistics
import time
from typing import Any, Dict, List, Sequence

from ..datasets.image_files import find_files
from ..deploy.opening import open_network
from ..errors import InputError, input_errors
from .modes import DEPLOYED_MODES, fitting_modes

__all__ = ['compare_streams']

# Rounds that are timed; another one before is not.
ROUNDS = 5


def compare_streams(folders: Sequence[str],
                    modes: Sequence[str],
                    paths: Sequence[str],
                    threads: int,
                    rounds: int = ROUNDS) -> List[Dict[str, Any]]:
    """Run files with several threads, and in as many streams.

    Args:
        folders (Sequence[str]): What ``tools/export.py`` wrote.
        modes (Sequence[str]): Of ``DEPLOYED_MODES``; those that run the
            graphs of a folder are measured.
        paths (Sequence[str]): Image files, which run one at a time, or
            folders with images; without any, nothing is measured.
        threads (int): Threads of one runner, and streams of the other.
        rounds (int): How often each runs all files. Defaults to 5.

    Returns:
        list[dict]: For each folder and mode ``images_per_s`` of ``threads``
        and of ``streams``, and ``of_threads``, the ratio of the two: medians
        over the rounds, in which the two take turns.

    Raises:
        InputError: If there is only one thread, or a folder or a file
            cannot be read.
    """
    if not paths:
        return []
    if threads == 1:
        raise InputError('--files compares several threads with as many '
                         'streams, and there is one thread: --threads 2')
    with input_errors(OSError, ValueError):
        files, _ = find_files(paths, 'raise')
        return [
            dict(
                _compare(folder, mode, files, threads, rounds),
                name=os.path.basename(os.path.normpath(folder)),
                mode=mode,
                threads=threads,
                num_files=len(files)) for folder in folders
            for mode in fitting_modes(folder, modes)
        ]


def _compare(folder: str, mode: str, files: Sequence[str], threads: int,
             rounds: int) -> Dict[str, Any]:
    """Let the two runners of a network take turns."""
    runtime, precision = DEPLOYED_MODES[mode]
    runners = [
        open_network(folder, runtime, threads, precision),
        open_network(folder, runtime, None, precision, streams=threads)
    ]
    times: List[List[float]] = [[], []]
    for turn in range(rounds + 1):
        for runner, found in zip(runners, times):
            start = time.perf_counter()
            runner(files)
            if turn:
                found.append(time.perf_counter() - start)
    plain, streamed = times
    return dict(
        images_per_s=dict(
            threads=len(files) / statistics.median(plain),
            streams=len(files) / statistics.median(streamed)),
        of_threads=statistics.median(one / other
                                     for one, other in zip(plain, streamed)))
