# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Fit schedules to runs that end before a part of them begins.

mmengine ends a run that is shorter than the warm-up with "end should be
larger than begin". Our tools fit every schedule to its run; here the hosts'
tools do so where mmengine would refuse it.
"""
from __future__ import annotations
import contextlib
import functools
from types import ModuleType
from typing import Any, Callable, Iterator


@contextlib.contextmanager
def fit_short_runs(module: ModuleType) -> Iterator[None]:
    """Patch the runner in ``mmengine.runner.runner``."""
    yield
    module.Runner.build_param_scheduler = _fitting(
        module.Runner.build_param_scheduler)


def _fitting(build: Callable) -> Callable:
    """Fit a schedule of which a part begins too late."""

    @functools.wraps(build)
    def build_param_scheduler(self: Any, scheduler: Any) -> Any:
        if _begins_too_late(self, scheduler):
            from ..hosts.schedule import fit_schedule
            scheduler, text = fit_schedule(scheduler, self.max_iters,
                                           len(self.train_dataloader))
            if text:
                self.logger.info(text)
        return build(self, scheduler)

    return build_param_scheduler


def _begins_too_late(runner: Any, schedulers: Any) -> bool:
    """Whether what ends with the run begins no earlier."""
    configs = [schedulers] if isinstance(schedulers, dict) else schedulers
    return isinstance(configs, (list, tuple)) and any(
        config.get('begin', 0) >= (runner.max_epochs if config.
                                   get('by_epoch', True) else runner.max_iters)
        for config in configs
        if isinstance(config, dict) and 'end' not in config)
