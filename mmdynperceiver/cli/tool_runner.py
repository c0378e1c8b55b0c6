# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The runner that the tools build: a quiet console, a fitting schedule."""
from typing import Any, Sequence

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from ..compat.checkpoint_files import find_latest_checkpoint
from ..datasets.class_names import (check_data_classes, class_names,
                                    config_num_classes)
from ..errors import InputError, input_errors
from ..hosts.hooks import CheckDataHook
from ..hosts.schedule import fit_schedule, short_schedule, type_name
from .console import quiet_console

__all__ = ['build_runner']


def build_runner(config: Config,
                 splits: Sequence[str] = (),
                 verbose: bool = False) -> Runner:
    """Build the runner that a config asks for; its scope decides the host.

    Args:
        config (Config): The whole config, perhaps with ``runner_type``.
        splits (Sequence[str]): Data to load and to check before the model is
            built: 'train', 'val' or 'test'. Defaults to none.
        verbose (bool): Whether the console shows what the log file keeps.
            Defaults to False.

    Raises:
        InputError: If the config does not fit the code or the data.
    """
    kind = Runner
    if 'runner_type' in config:
        kind = RUNNERS.get(config.runner_type)
        if kind is None:
            raise InputError(f'there is no runner {config.runner_type!r} '
                             f'(runner_type)')
    settings = dict(splits=tuple(splits), verbose=verbose)
    with input_errors():
        return type('ToolRunner', (_ToolRunner, kind),
                    settings).from_cfg(config)


class _ToolRunner(Runner):
    """Runner that checks data first, with a quiet console.

    The runner of a host stands behind it among the bases.
    """

    splits: Sequence[str]
    verbose: bool

    def build_model(self, model: Any) -> nn.Module:
        """Load and check the data before the model is built."""
        for split in self.splits:
            loader = self.__dict__[f'_{split}_dataloader']
            if isinstance(loader, dict):
                self.__dict__[f'_{split}_dataloader'] = self.build_dataloader(
                    loader,
                    seed=self.seed,
                    diff_rank_seed=self._randomness_cfg.get(
                        'diff_rank_seed', False))
        hooks = self.cfg.get('custom_hooks') or ()
        if any(
                isinstance(hook, CheckDataHook) or isinstance(hook, dict)
                and type_name(hook) == CheckDataHook.__name__
                for hook in hooks):
            self._check_data()
        return super().build_model(model)

    def _check_data(self) -> None:
        """Compare the classes of data with those of the config."""
        num_classes = config_num_classes(self.cfg)
        known = None
        for split in self.splits if num_classes is not None else ():
            loader = self.__dict__[f'_{split}_dataloader']
            if isinstance(loader, DataLoader):
                check_data_classes(f'{split} data', loader.dataset,
                                   num_classes, known, 'training data')
                known = class_names(loader.dataset)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Keep walls of text off the console; the file has them."""
        logger = super().build_logger(*args, **kwargs)
        if not self.verbose:
            quiet_console(logger)
        return logger

    # What is built when a run starts is checked as the rest is.
    def build_train_loop(self, loop: Any) -> BaseLoop:
        """Refuse a run without a step."""
        with input_errors():
            loop = super().build_train_loop(loop)
        if loop.max_iters < 1:
            raise InputError(
                f'there is nothing to train: the run has '
                f'{loop.max_iters} steps; set train_cfg.max_epochs (or '
                f'max_iters) to 1 or more, and train_dataloader.batch_size'
                f' to no more than there are images')
        return loop

    @input_errors()
    def build_val_loop(self, loop: Any) -> BaseLoop:
        """Build it."""
        return super().build_val_loop(loop)

    @input_errors()
    def build_test_loop(self, loop: Any) -> BaseLoop:
        """Build it."""
        return super().build_test_loop(loop)

    @input_errors()
    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build it."""
        return super().build_optim_wrapper(optim_wrapper)

    @input_errors()
    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Fit the schedule to the length of the run, and say so."""
        scheduler, text = fit_schedule(scheduler, self.max_iters,
                                       len(self.train_dataloader))
        if text:
            self.logger.info(text)
        return super().build_param_scheduler(scheduler)

    def load_or_resume(self) -> None:
        """Start from the given weights where there is nothing to resume."""
        if self._resume == 'auto' and not self._has_loaded:
            found = find_latest_checkpoint(self.work_dir)
            self._resume = found is not None
            self._load_from = found or self._load_from
            self.logger.info(
                f'Auto resumed from the latest checkpoint {found}.' if found
                else 'there is no checkpoint to resume: training starts from '
                f'{self._load_from or "initial weights"}')
        super().load_or_resume()

    def resume(self, *args: Any, **kwargs: Any) -> None:
        """Say so where the resumed schedule ends before the run."""
        super().resume(*args, **kwargs)
        if isinstance(self.param_schedulers, list):
            steps = {True: len(self.train_dataloader), False: 1}
            last = max(
                (s.end * steps[s.by_epoch] for s in self.param_schedulers),
                default=self.max_iters)
            if last < self.max_iters:
                self.logger.warning(short_schedule(last, self.max_iters))
