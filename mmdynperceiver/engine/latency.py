# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How long a network really takes to each exit."""
import json
import math
import os
import platform
import statistics
import time
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..core import ExitPolicy, as_images, fixed_exit_thresholds, run_early_exit
from .errors import InputError
from .progress import progress_bar

__all__ = ['describe_machine', 'measure_exits', 'read_latencies']


def measure_exits(model: nn.Module,
                  images: Sequence[Tensor],
                  runs: int = 50,
                  warmup: int = 10) -> List[Dict[str, float]]:
    """Measure the time from images to the logits of each exit.

    What is timed is the loop that really stops, its decisions included;
    loading and normalising images are not. The exits take turns in every
    run, so that a slow spell of the machine meets all of them.

    Args:
        model (nn.Module): An early-exit model; it is left in eval mode.
        images (Sequence[Tensor]): Batches (B, 3, H, W), or of videos (B, M,
            3, H, W), to take in turn, on the model's device.
        runs (int): Timed runs of each exit. Defaults to 50.
        warmup (int): Untimed runs of each exit before. Defaults to 10.

    Returns:
        list[dict]: For each exit ``exit``, ``median_ms``, ``p90_ms`` and
        ``min_ms`` of one batch.
    """
    trunk, exits = model.eval().exit_parts()
    num_exits = exits.num_exits
    policies = [
        ExitPolicy(num_exits, fixed_exit_thresholds(k, num_exits))
        for k in range(num_exits)
    ]
    times: List[List[float]] = [[] for _ in policies]
    with torch.inference_mode(), progress_bar() as bar:
        task = bar.add_task('measuring', total=warmup + runs)
        for run in range(warmup + runs):
            batch = images[run % len(images)]
            # A rotated order: no exit always follows the same other one.
            for k in [(run + i) % num_exits for i in range(num_exits)]:
                _wait(batch)
                start = time.perf_counter()
                run_early_exit(trunk, exits, policies[k], *as_images(batch))
                _wait(batch)
                if run >= warmup:
                    times[k].append(1000 * (time.perf_counter() - start))
            bar.advance(task)
    return [
        dict(
            exit=k,
            median_ms=statistics.median(values),
            p90_ms=sorted(values)[math.ceil(0.9 * len(values)) - 1],
            min_ms=min(values)) for k, values in enumerate(times)
    ]


def _wait(tensor: Tensor) -> None:
    """Wait until the device of a tensor has done its work."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def describe_machine(device: torch.device) -> Dict[str, Any]:
    """What a latency depends on, beside the network.

    Args:
        device (torch.device): Where the network runs.
    """
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else \
        _processor()
    return dict(
        device=name,
        threads=torch.get_num_threads(),
        system=f'{platform.system()} {platform.machine()}',
        python=platform.python_version(),
        torch=torch.__version__)


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
        tuple[float]: Median milliseconds of one image up to each exit.

    Raises:
        InputError: If the file is missing, is no such table, is of another
            model or of larger batches, or its latencies do not grow from
            exit to exit.
    """
    path = os.fspath(path)
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        found = tuple(float(row['median_ms']) for row in content['exits'])
        measured = dict(content['model'])
        batch_size = int(content['batch_size'])
    except OSError as error:
        raise InputError(f'cannot read the latency table {path!r}: '
                         f'{error.strerror}') from error
    except (ValueError, TypeError, KeyError) as error:
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
    if not all(0 < a < b < math.inf for a, b in zip(found, found[1:])):
        raise InputError(
            f'the latencies in {path!r} must be positive and grow from exit '
            f'to exit, got {", ".join(f"{ms:.3g}" for ms in found)} ms: '
            f'measure with more runs')
    return found
