# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A progress bar in place of the log on the console."""
from typing import Any, Dict, Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from rich.progress import Progress

from ..progress import progress_bar

__all__ = ['ProgressBarHook']


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show training as a progress bar, and each validation as one line.

    The log file keeps everything; this is for the console.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._bar: Optional[Progress] = None

    def before_train(self, runner: Runner) -> None:
        """Start the bar."""
        self._bar = progress_bar()
        self._bar.start()
        self._task = self._bar.add_task('training', total=runner.max_iters)

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        """Move the bar on."""
        if self._bar is not None:
            loss = runner.message_hub.get_scalar('train/loss').current()
            self._bar.update(
                self._task,
                completed=runner.iter + 1,
                description=f'training  loss {loss:.2f} ')

    def after_val_epoch(self,
                        runner: Runner,
                        metrics: Optional[Dict[str, float]] = None) -> None:
        """Print the accuracy of each exit."""
        if self._bar is not None and metrics:
            accuracies = '  '.join(
                f'{metrics[key]:.1f}' for key in sorted(metrics)
                if key.startswith('exit') and key.endswith('/top1'))
            self._bar.console.print(
                f'epoch {runner.epoch} of {runner.max_epochs}: accuracy of '
                f'the exits {accuracies} %')

    def after_train(self, runner: Runner) -> None:
        """Stop the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    # Where training was interrupted.
    after_run = after_train
