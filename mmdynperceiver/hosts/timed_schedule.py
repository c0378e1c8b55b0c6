# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A run that ends in time: its schedule follows steps, or the clock."""
import math
import time
from typing import Any, Callable, Iterator, Optional, Sized

import torch
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, HOOKS
from mmengine.runner import Runner
from torch.utils.data import Sampler

__all__ = ['SlicedSampler', 'TimedScheduleHook']

ELAPSED = 'timed_schedule/elapsed'


@HOOKS.register_module()
class TimedScheduleHook(Hook):
    """Warm up, then a cosine to zero, by steps or by time.

    How far a run is, is the larger share of its steps and of its time. On a
    machine that turns out slower the learning rate still ends at zero when
    the time is over, and training stops at the end of that epoch. It takes
    the place of ``param_scheduler``. Time counts over interruptions.

    Args:
        minutes (float, optional): Most that training may take. Defaults to
            None, as long as its steps take.
        warmup (float): Share of the run in which the rate rises. Defaults
            to 0.1.
        clock (Callable): Gives seconds. Defaults to ``time.monotonic``.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self,
                 minutes: Optional[float] = None,
                 warmup: float = 0.1,
                 clock: Callable[[], float] = time.monotonic) -> None:
        if minutes is not None and not minutes > 0:
            raise ValueError(f'minutes must be above 0, got {minutes}')
        if not 0 <= warmup < 1:
            raise ValueError(f'warmup must be at least 0 and below 1, got '
                             f'{warmup}')
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.warmup = warmup
        self.clock = clock

    def before_train(self, runner: Runner) -> None:
        """Go on from the time that an interrupted run has spent."""
        hub = runner.message_hub
        before = hub.get_info(ELAPSED) if ELAPSED in hub.runtime_info else 0.
        hub.update_info(ELAPSED, before)
        self._start = self.clock() - before
        self.after_train_epoch(runner)

    def _elapsed(self) -> float:
        """Seconds of training so far."""
        return self.clock() - self._start

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Any = None) -> None:
        """Set the learning rate."""
        done = max(runner.iter / runner.max_iters,
                   self._elapsed() / self.seconds)
        factor = rate_factor(min(1., done), self.warmup)
        for group in runner.optim_wrapper.param_groups:
            group['lr'] = group.setdefault('initial_lr', group['lr']) * factor

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the time that was spent."""
        hub = checkpoint.get('message_hub')
        if hub is not None:
            hub['runtime_info'][ELAPSED] = self._elapsed()

    def after_train_epoch(self, runner: Runner) -> None:
        """Stop when the time is over, also before the first epoch."""
        if self._elapsed() >= self.seconds:
            runner.train_loop.stop_training = True


def rate_factor(done: float, warmup: float) -> float:
    """What the learning rate is multiplied by, at a share of the run."""
    if done < warmup:
        # Not zero, lest the first step be lost.
        return (done + 0.01) / (warmup + 0.01)
    return (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2


@DATA_SAMPLERS.register_module()
class SlicedSampler(Sampler):
    """Epochs of a fixed number of samples, whatever the data have.

    One after the other they take each sample equally often, in an order that
    follows from the seed: a run that goes on at any epoch sees what it would
    have seen.

    Args:
        dataset (Sized): The data.
        num_samples (int): Length of an epoch.
        seed (int): Decides the order. Defaults to 0.

    Raises:
        ValueError: If there are no samples, or none are wanted.
    """

    def __init__(self,
                 dataset: Sized,
                 num_samples: int,
                 seed: Optional[int] = 0) -> None:
        if len(dataset) < 1 or num_samples < 1:
            raise ValueError(f'there must be samples to draw, got '
                             f'{len(dataset)} and num_samples={num_samples}')
        self.total, self.num_samples = len(dataset), num_samples
        self.seed = seed or 0
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        """The numbers of the samples of this epoch."""
        first = self.epoch * self.num_samples
        round_, order = -1, []
        for place in range(first, first + self.num_samples):
            if place // self.total != round_:
                round_ = place // self.total
                generator = torch.Generator().manual_seed(self.seed + round_)
                order = torch.randperm(
                    self.total, generator=generator).tolist()
            yield order[place % self.total]

    def __len__(self) -> int:
        """Samples in an epoch."""
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, from 0."""
        self.epoch = epoch
