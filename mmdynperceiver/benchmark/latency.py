# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How long a network really takes to each exit."""
import itertools
import json
import math
import os
import platform
import random
import statistics
import time
from importlib.metadata import version
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple, Union

import torch
from torch import Tensor

from ..core import (ExitPolicy, Prediction, fixed_exit_thresholds,
                    run_early_exit)
from ..core.early_exit import as_images
from ..core.protocols import EarlyExitNetwork
from ..errors import InputError
from ..progress import progress_bar

__all__ = [
    'CLOCKS', 'describe_machine', 'early_exit_pass', 'exit_passes',
    'measure_exits', 'read_latencies', 'summary', 'time_in_turn'
]

# How long a network runs untimed before its turn beside others. On a Xeon a
# pass of 3 ms took until its eighth run to be as fast as among its likes.
LEAD_MS = 80
# A later exit may be measured to take so much less than one before.
NOISE = 0.1
CLOCKS = dict(wall=time.perf_counter, cpu=time.process_time)


def measure_exits(model: EarlyExitNetwork,
                  images: Sequence[Tensor],
                  runs: int = 50,
                  warmup: int = 10) -> List[Dict[str, float]]:
    """Measure the time from images to the logits of each exit.

    What is timed is the loop that really stops, its decisions included. The
    exits take turns, so that a slow spell of the machine meets all of them.

    Args:
        model (EarlyExitNetwork): The model; it is left in eval mode.
        images (Sequence[Tensor]): Batches (B, 3, H, W), or of videos (B, M,
            3, H, W), to take in turn, on the model's device.
        runs (int): Timed runs of each exit. Defaults to 50.
        warmup (int): Untimed runs of each exit before. Defaults to 10.

    Returns:
        list[dict]: For each exit ``exit``, ``median_ms``, ``p90_ms``,
        ``p99_ms`` and ``min_ms`` of one batch.
    """
    times, = time_in_turn([exit_passes(model)], images, runs, warmup)
    return [dict(exit=k, **summary(values)) for k, values in enumerate(times)]


def exit_passes(
        model: EarlyExitNetwork) -> List[Callable[[Tensor], Prediction]]:
    """For each exit of an early-exit model, the pass in which all leave there.

    The model is left in eval mode.
    """
    count = model.eval().exit_parts()[1].num_exits
    return [
        early_exit_pass(model,
                        ExitPolicy(count, fixed_exit_thresholds(k, count)))
        for k in range(count)
    ]


def early_exit_pass(model: EarlyExitNetwork,
                    policy: ExitPolicy) -> Callable[[Tensor], Prediction]:
    """The pass in which each image leaves where a policy says."""
    trunk, exits = model.exit_parts()
    return lambda batch: run_early_exit(trunk, exits, policy, *as_images(batch)
                                        )


def time_in_turn(
    groups: Sequence[Sequence[Callable[[Tensor], Any]]],
    images: Sequence[Tensor],
    runs: int = 50,
    warmup: int = 10,
    leads: Sequence[Callable[[Tensor], Any]] = (),
    rounds_per_turn: int = 1,
    clock: str = 'wall',
) -> List[List[List[float]]]:
    """Time the passes of several networks, all of them in every round.

    A network's passes stand together, since whoever runs first finds the
    caches full of another network. Networks take turns in going first; the
    passes of one are in another order each round, drawn with a fixed seed.

    Args:
        groups (Sequence[Sequence[Callable]]): What to time of each network.
        images (Sequence[Tensor]): Batches to take in turn, one each round.
        runs (int): Timed rounds. Defaults to 50.
        warmup (int): Untimed ones before. Defaults to 10.
        leads (Sequence[Callable]): For each network what runs untimed before
            its turn, for ``LEAD_MS`` and at least once. Defaults to (), none.
        rounds_per_turn (int): Rounds of a network in a turn. Defaults to 1.
        clock (str): 'wall', or 'cpu' for the time that this process had a
            core, all its threads together: what one thread takes where other
            processes keep the cores busy. Defaults to 'wall'.

    Returns:
        list[list[list[float]]]: Milliseconds of each network, pass and round:
        round r was run on batch ``r % len(images)``.
    """
    times: List[List[List[float]]] = [[[] for _ in group] for group in groups]
    shuffle = random.Random(0)
    turns = [
        rounds[first:first + rounds_per_turn]
        for rounds in (range(-warmup, 0), range(runs))
        for first in range(0, len(rounds), rounds_per_turn)
    ]
    with torch.inference_mode(), progress_bar() as bar:
        task = bar.add_task('measuring', total=warmup + runs)
        for turn, rounds in enumerate(turns):
            for k in range(len(groups)):
                g = (turn + k) % len(groups)
                spent = 0.
                while leads and spent < LEAD_MS:
                    spent += _time(leads[g], images[rounds[0] % len(images)],
                                   clock)
                for run in rounds:
                    passes = list(zip(groups[g], times[g]))
                    for one, found in shuffle.sample(passes, len(passes)):
                        spent = _time(one, images[run % len(images)], clock)
                        if run >= 0:
                            found.append(spent)
            bar.advance(task, len(rounds))
    return times


def _time(run: Callable[[Tensor], Any], batch: Tensor, clock: str) -> float:
    """Milliseconds of one pass."""
    now = CLOCKS[clock]
    _wait(batch)
    start = now()
    run(batch)
    _wait(batch)
    return 1000 * (now() - start)


def _wait(tensor: Tensor) -> None:
    """Wait until the device of a tensor has done its work."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def summary(values: Sequence[float]) -> Dict[str, float]:
    """Median, 90th and 99th percentile and minimum of milliseconds."""
    ordered = sorted(values)
    found = {'median_ms': statistics.median(ordered)}
    for percent in (90, 99):
        rank = math.ceil(percent / 100 * len(ordered))
        found[f'p{percent}_ms'] = ordered[rank - 1]
    return dict(found, min_ms=ordered[0])


def describe_machine(
    device: torch.device, packages: Sequence[str] = ()) -> Dict[str, Any]:
    """What a latency depends on, beside the network.

    Args:
        device (torch.device): Where the network runs.
        packages (Sequence[str]): Those whose versions to note, too.
    """
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else \
        _processor()
    return dict(
        device=name,
        threads=torch.get_num_threads(),
        system=f'{platform.system()} {platform.machine()}',
        python=platform.python_version(),
        torch=torch.__version__,
        **{name: version(name)
           for name in packages})


def _processor() -> str:
    """Name of the processor."""
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            for line in file:
                if line.startswith('model name'):
                    return line.partition(':')[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def read_latencies(path: Union[str, os.PathLike],
                   model: Mapping[str, Any]) -> Tuple[float, ...]:
    """Read the latency of each exit from what ``tools/benchmark.py`` wrote.

    Args:
        path (str | PathLike): JSON file: an object with ``exits``, a list of
            objects with ``median_ms``, ``model``, what it was measured of,
            and ``batch_size``.
        model (Mapping[str, Any]): What ``describe_model`` says of the model
            that the table is needed for.

    Returns:
        tuple[float]: Median milliseconds of one image up to each exit; a
        later exit that was measured to be a little faster takes as long as
        those before.

    Raises:
        InputError: If the file is missing, is no such table, is of another
            model or of larger batches, or its latencies do not grow from
            exit to exit.
    """
    path = os.fspath(path)
    try:
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file)
        found = tuple(float(row['median_ms']) for row in content['exits'])
        measured, batch_size = dict(content['model']), content['batch_size']
    except OSError as error:
        raise InputError(f'cannot read the latency table {path!r}: '
                         f'{error.strerror}') from error
    except (ValueError, TypeError, KeyError, OverflowError,
            RecursionError) as error:
        raise InputError(f'{path!r} is no latency table as '
                         f'tools/benchmark.py writes it') from error
    for name, value in model.items():
        if measured.get(name) != value:
            raise InputError(
                f'the latency table {path!r} is of another model: its {name} '
                f'is {measured.get(name)}, here it is {value}')
    if batch_size != 1:
        raise InputError(
            f'the latency table {path!r} is of batches of {batch_size}; a '
            f'mean over images needs that of single ones: --batch-size 1')
    if len(found) != model['num_exits']:
        raise InputError(f'the latency table {path!r} has {len(found)} exits '
                         f'and the model has {model["num_exits"]}')
    # Two exits may be so near that noise is larger.
    grown = tuple(itertools.accumulate(found, max))
    if not all(0 < a * (1 - NOISE) < b < math.inf
               for a, b in zip(grown, found)):
        raise InputError(
            f'the latencies in {path!r} must be positive and grow from exit '
            f'to exit, got {", ".join(f"{ms:.3g}" for ms in found)} ms: '
            f'measure with more runs')
    return grown
