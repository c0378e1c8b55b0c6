# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How fast a network trains, and how fast it runs once it is exported."""
import os
import statistics
import tempfile
import time
from importlib.util import find_spec
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from ..benchmark.deployed import export_model
from ..deploy import Runner
from ..errors import InputError, input_errors
from .judge import TIMED

__all__ = ['Speeds', 'check_packages', 'early_exit_model', 'exit_milliseconds']

# Rounds of a measurement; in each, all exits take turns.
RUNS, WARMUP = 20, 3
STEPS = 2
# Processor time of a report with all its pictures, in seconds.
REPORT = 12.


def check_packages() -> None:
    """Refuse to begin without what exporting needs.

    Raises:
        InputError: Naming what is missing, and how to install it.
    """
    missing = [n for n in ('onnx', 'onnxruntime') if find_spec(n) is None]
    if missing:
        raise InputError(
            f'fit exports what it has trained, and {" and ".join(missing)} '
            f'cannot be found: pip install "mmdynperceiver[deploy]"')


def early_exit_model(backbone: Dict[str, Any],
                     num_classes: int) -> Dict[str, Any]:
    """The config of a classifier with some backbone."""
    return dict(
        type='DynPerceiverClassifier',
        backbone=backbone,
        head=dict(
            type='DynPerceiverHead',
            num_classes=num_classes,
            loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)))


class Speeds:
    """What a planned network costs, for images of any size; kept once known.

    Args:
        plan (Plan): With ``backbone`` and ``batch_size``.
        num_classes (int): Number of classes.
        threads (int, optional): Of the runtime.

    Raises:
        InputError: If the network cannot be built so.
    """

    def __init__(self, plan: Any, num_classes: int,
                 threads: Optional[int]) -> None:
        self.batch_size, self.threads = plan.batch_size, threads
        self._start = time.monotonic(), time.process_time()
        with input_errors():
            import mmdynperceiver.classification  # noqa: F401  (registers)
            init_default_scope('mmpretrain')
            self.model = MODELS.build(
                early_exit_model(plan.backbone, num_classes))
        self._speeds: Dict[int, float] = {}
        self._milliseconds: Dict[int, List[float]] = {}
        self._exporting: Dict[int, float] = {}

    def spent(self) -> float:
        """Seconds since these were made."""
        return time.monotonic() - self._start[0]

    def seconds_behind(self, size: int, counts: Mapping[str, int]) -> float:
        """How long what follows a training takes, of a size measured before.

        The network is exported, as it was to be measured. It sees the
        held-out images after the last epoch and for the thresholds, and the
        test images for the report, without a step backwards. Up to ``TIMED``
        test images are run by all exits and leaving early, twice each.

        Args:
            size (int): Height and width.
            counts (Mapping[str, int]): Images of 'val' and 'test'.
        """
        seen = 2 * counts['val'] + counts['test']
        timed = 4 * min(TIMED, counts['test'])
        # How much longer than its processor time a report takes here.
        own = time.process_time() - self._start[1]
        crowded = max(1., self.spent() / max(own, 1e-3))
        return self._exporting[size] + REPORT * crowded + \
            seen / self.images_per_second(size) + \
            timed * self._milliseconds[size][-1] / 1000

    def macs(self, size: int) -> Tuple[int, ...]:
        """Up to each exit."""
        with input_errors():
            return self.model.macs_per_exit((3, size, size))

    def milliseconds(self, size: int) -> List[float]:
        """Of one image up to each exit, exported."""
        if size not in self._milliseconds:
            start = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, 'exported')
                with input_errors():
                    export_model(self.model.eval(), (3, size, size), path)
                self._milliseconds[size] = exit_milliseconds(
                    Runner.load(path, threads=self.threads))
            self._exporting[size] = time.monotonic() - start
        return self._milliseconds[size]

    def images_per_second(self, size: int) -> float:
        """Of training, measured on a few steps."""
        if size not in self._speeds:
            self._speeds[size] = self._measure_step(size)
        return self._speeds[size]

    def _measure_step(self, size: int) -> float:
        """Time steps on random images."""
        device = get_device()
        model = self.model.to(device).train()
        images = torch.rand(self.batch_size, 3, size, size, device=device)
        samples = [
            DataSample().set_gt_label(0).to(device)
            for _ in range(self.batch_size)
        ]
        spent = []
        for _ in range(STEPS + 1):
            start = time.perf_counter()
            losses = model(images, samples, mode='loss')
            sum(v for k, v in losses.items() if 'loss' in k).backward()
            model.zero_grad(set_to_none=True)
            if device == 'cuda':
                torch.cuda.synchronize()
            spent.append(time.perf_counter() - start)
        self.model.cpu()
        return self.batch_size / min(spent[1:])


def exit_milliseconds(runner: Runner) -> List[float]:
    """Median milliseconds of one image up to each exit, in turn; of three
    runs at a time the fastest counts."""
    image = np.random.default_rng(0).standard_normal(
        (1, *runner.manifest.tensors['images'][1:])).astype(np.float32)
    exits = range(runner.manifest.num_exits)
    times: List[List[float]] = [[] for _ in exits]
    for run in range(WARMUP + RUNS):
        for k in exits:
            # What else the machine does only makes it longer.
            spent = min(runner.time_to_exit(k, image) for _ in range(3))
            if run >= WARMUP:
                times[k].append(spent)
    found = list(map(statistics.median, times))
    # Two exits may be so near that noise is larger.
    for k in exits[1:]:
        found[k] = max(found[k], found[k - 1] * 1.0001)

    return found
