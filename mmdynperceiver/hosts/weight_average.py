# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A moving average of the weights that fits runs of every length."""
from typing import Any

from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from .hooks import drop_loaded_thresholds

__all__ = ['WarmupEMAHook']


@HOOKS.register_module()
class WarmupEMAHook(EMAHook):
    """Moving average of the weights whose momentum warms up.

    With the momentum of a long run alone, the average of a short one hardly
    leaves its initial weights. Here update t has the momentum
    ``max(momentum, gamma / (gamma + t))``: the average covers about the last
    1 / gamma of the steps so far, and 1 / momentum steps at most, and
    initial weights weigh nothing. A run of many more than gamma / momentum
    steps ends with the average that ``momentum`` alone gives.

    Validation, test and checkpoints use the average, as with ``EMAHook``; a
    checkpoint keeps the trained weights as ``ema_state_dict``. A run that
    starts from a checkpoint (``load_from``) starts from its average, and the
    count of steps anew; a resumed one goes on with both.

    Args:
        momentum (float): Smallest momentum, in (0, 1). Defaults to 1e-4.
        gamma (int): See above. Defaults to 10.
        interval (int): Steps from update to update. Defaults to 1.
        **kwargs: Arguments of ``mmengine.hooks.EMAHook`` and of the average,
            such as ``update_buffers``.
    """

    def __init__(self,
                 momentum: float = 1e-4,
                 gamma: int = 10,
                 interval: int = 1,
                 **kwargs: Any) -> None:
        # mmengine counts steps, not updates.
        super().__init__(
            ema_type='MomentumAnnealingEMA',
            momentum=momentum,
            gamma=gamma * interval,
            interval=interval,
            **kwargs)

    def before_train(self, runner: Runner) -> None:
        """Say what the average covers at the end of the run."""
        super().before_train(runner)
        drop_loaded_thresholds(self.ema_model.module)
        total = runner.max_iters
        covered = min(self.num_steps_covered(total), total)
        text = f'the weight average covers about the last {covered:,} of ' \
               f'{total:,} steps'
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            epochs = covered * runner.max_epochs / total
            text += f' ({epochs:.2g} of {runner.max_epochs} epochs)'
        runner.logger.info(f'{text}; validation and checkpoints use it')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the average of a checkpoint, or weights without more."""
        if 'state_dict' not in checkpoint:
            checkpoint = dict(state_dict=checkpoint)
        super().after_load_checkpoint(runner, checkpoint)

    def num_steps_covered(self, num_steps: int) -> int:
        """How many steps the average covers, about: 1 / momentum.

        Args:
            num_steps (int): Number of steps so far.
        """
        average = self.ema_model
        momentum = max(average.momentum,
                       average.gamma / (average.gamma + num_steps))
        return round(average.interval / momentum)
