# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Hooks for early-exit models, whatever their task."""
import copy
import itertools
import os
from functools import partial
from typing import Any, Callable, Optional, Sequence, Tuple

from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn

from ..core import ExitPolicy, Exits, graph_statistics
from ..core.accelerate.compiled import MODES, in_mode
from ..datasets.class_names import (HEAD_NAMES, check_data_classes,
                                    checkpoint_classes, class_names)
from ..errors import InputError
from .exit_head import leave_out_classifiers
from .views import find_tta, merge_views
from .wrappers import is_wrapper, unwrap_model

__all__ = [
    'CheckDataHook', 'EvaluateAllExitsHook', 'InferenceModeHook',
    'drop_loaded_thresholds'
]


def drop_loaded_thresholds(model: nn.Module) -> bool:
    """Drop the thresholds that a checkpoint brought into a model, if any.

    They belong to its weights, and these are about to change.
    """
    policy = getattr(unwrap_model(model), 'policy', None)
    return isinstance(policy, ExitPolicy) and policy.drop_loaded()


@HOOKS.register_module()
class EvaluateAllExitsHook(Hook):
    """Run all exits in one pass while metrics watch.

    Metrics then see every exit, and the thresholds are replayed on them;
    elsewhere the model keeps really stopping. Under test-time augmentation
    the views are merged at each exit, and their MACs add up. Thresholds that
    a checkpoint brought are dropped before training.

    Args:
        val (bool): Whether in validation. Defaults to True.
        test (bool): Whether in test. Defaults to True.

    Raises:
        InputError: Before training with validation, before validation and
            test, if the model has no exits.
    """

    def __init__(self, val: bool = True, test: bool = True) -> None:
        self.val = val
        self.test = test

    def before_train(self, runner: Runner) -> None:
        """Refuse models without exits before any work is done."""
        if runner.val_loop is not None:
            _early_exit_model(runner)
        # Averages of the weights load the checkpoint as well.
        averages = [
            hook.ema_model.module for hook in runner.hooks
            if isinstance(hook, EMAHook)
        ]
        if any([drop_loaded_thresholds(m) for m in (runner.model, *averages)]):
            runner.logger.warning(
                'the thresholds of the checkpoint are left out: they belong '
                'to its weights; calibrate again after training')

    def before_val(self, runner: Runner) -> None:
        """Switch on."""
        _early_exit_model(runner).evaluate_all_exits = self.val

    def after_val(self, runner: Runner) -> None:
        """Switch off."""
        unwrap_model(runner.model).evaluate_all_exits = False

    def before_test(self, runner: Runner) -> None:
        """Switch on."""
        _early_exit_model(runner).evaluate_all_exits = self.test
        wrapper = find_tta(runner.model)
        if wrapper is not None:
            wrapper.merge_preds = partial(merge_views, wrapper.merge_preds)

    def after_test(self, runner: Runner) -> None:
        """Switch off."""
        self.after_val(runner)
        wrapper = find_tta(runner.model)
        if wrapper is not None:
            del wrapper.merge_preds  # the host's own is back


def _early_exit_model(runner: Runner) -> nn.Module:
    """The model, if it has exits."""
    model = unwrap_model(runner.model)
    if not hasattr(model, 'evaluate_all_exits'):
        raise InputError(
            f'EvaluateAllExitsHook is for early-exit models, got '
            f'{type(model).__name__}: remove it from custom_hooks')
    return model


@HOOKS.register_module()
class InferenceModeHook(Hook):
    """Test with a prepared, compiled or captured copy of the model.

    It is made when the weights are final: after a weight average has taken
    the place of the trained ones.

    Args:
        mode (str): One of ``core.MODES``. Defaults to 'prepared'.
        image_size (Sequence[int], optional): Height and width of the test
            images; others are right too, but slower. Defaults to None, that
            of the first batch.

    Raises:
        ValueError: If there is no such mode.
    """

    priority = 'VERY_LOW'

    def __init__(self,
                 mode: str = 'prepared',
                 image_size: Optional[Sequence[int]] = None) -> None:
        if mode not in MODES:
            raise ValueError(f'mode must be one of {", ".join(MODES)}, got '
                             f'{mode!r}')
        self.mode = mode
        self.image_size = None if image_size is None else tuple(image_size)
        self._put_back: Optional[Callable[[], None]] = None

    def before_test_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None) -> None:
        """Put the copy in the model's place, once the images are known."""
        if self._put_back is not None:
            return
        owner, name = runner, 'model'
        while is_wrapper(getattr(owner, name)):
            owner, name = getattr(owner, name), 'module'
        model = getattr(owner, name)
        size = self.image_size or _image_size(model, data_batch)
        setattr(owner, name, in_mode(model.eval(), self.mode, size))
        self._put_back = partial(setattr, owner, name, model)

    def after_test_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Give the model its place back."""
        if self._put_back is not None:
            if self.mode.startswith('graphs'):
                model: Any = unwrap_model(runner.model)
                runner.logger.info('captured graphs: '
                                   f'{graph_statistics(model)}')
            self._put_back()
        self._put_back = None


def _image_size(model: nn.Module,
                data_batch: Any) -> Optional[Tuple[int, ...]]:
    """Height and width of a batch for the model, if they can be told."""
    inputs = data_batch.get('inputs') if isinstance(data_batch, dict) else None
    prepare = getattr(model, 'data_preprocessor', None)
    # Of an augmented image there is a list of views.
    if prepare is None or not isinstance(inputs, (list, tuple, Tensor)) or \
            not isinstance(inputs[0], Tensor):
        return None
    batch = prepare(copy.deepcopy(data_batch), False)
    return tuple(batch['inputs'].shape[-2:])


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Refuse data that do not fit the model, and report skipped files.

    Before the first iteration the number of classes of each data set must be
    that of the model's head, and validation and test must have the classes of
    training in the same order: a missing folder would shift all labels. Where
    training starts from a checkpoint of another number of classes, its
    classifiers are left out.
    """

    # Before an average of the weights loads a checkpoint.
    priority = 'HIGH'

    def __init__(self) -> None:
        self._trained_on: Optional[Sequence[str]] = None
        self._val_is_checked = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the classes of the checkpoint, or leave them out."""
        num_classes = _num_classes(runner)
        if num_classes is not None:
            self._trained_on = checkpoint_classes(checkpoint, num_classes)
        if not getattr(runner, '_resume', False) and isinstance(
                getattr(runner, '_train_loop', None), BaseLoop):
            self._leave_out_classifiers(runner, checkpoint)

    @staticmethod
    def _leave_out_classifiers(runner: Runner, checkpoint: dict) -> None:
        """Train classifiers of another number of classes anew."""
        model = unwrap_model(runner.model)
        weights = checkpoint.get('state_dict', checkpoint)
        average = checkpoint.get('ema_state_dict', {})
        for path, start in itertools.product(HEAD_NAMES, ('', 'module.')):
            exits = _attribute(model, f'{path}.exits')
            if isinstance(exits, Exits):
                prefix = f'{start}{path}.exits.'
                leave_out_classifiers(exits, average, prefix)
                report = leave_out_classifiers(exits, weights, prefix)
                if report:
                    runner.logger.warning(report)

    def before_train(self, runner: Runner) -> None:
        """Check the data of training and of the validation between."""
        # Other classes may be learned from a checkpoint, but not half-way.
        resumed = getattr(runner, '_resume', False)
        _check_data(runner, 'train', self._trained_on if resumed else None)
        self._trained_on = class_names(runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            _check_data(runner, 'val', self._trained_on, 'training data')
        self._val_is_checked = True

    def before_val(self, runner: Runner) -> None:
        """Check the validation data, not again after every epoch."""
        if not self._val_is_checked:
            _check_data(runner, 'val', self._trained_on)

    def before_test(self, runner: Runner) -> None:
        """Check the test data."""
        _check_data(runner, 'test', self._trained_on)

    def after_train_epoch(self, runner: Runner) -> None:
        """Report how many files were skipped so far."""
        num_broken = getattr(runner.train_dataloader.dataset, 'num_broken', 0)
        # Tools of the hosts run without data.
        if isinstance(num_broken, int) and num_broken:
            runner.logger.warning(
                f'{num_broken} broken training images were skipped so far')


def _check_data(runner: Runner,
                name: str,
                known: Optional[Sequence[str]],
                source: str = 'checkpoint') -> None:
    """Compare a data set's classes with the model's, and its files."""
    dataset = getattr(runner, f'{name}_dataloader').dataset
    num_classes = _num_classes(runner)
    if num_classes is not None:
        check_data_classes(f'{name} data', dataset, num_classes, known, source)
    own = getattr(dataset, 'ann_file', None)
    metrics = _attribute(runner, f'{name}_loop.evaluator.metrics')
    for metric in metrics or ():
        other = getattr(metric, 'ann_file', None)
        if own and other and os.path.realpath(own) != os.path.realpath(other):
            runner.logger.warning(
                f'the images are those of {own!r}, and they are evaluated '
                f"against {other!r}: give the evaluator the data set's "
                f'ann_file, unless this is meant')


def _num_classes(runner: Runner) -> Optional[int]:
    """How many the model's head has, if it says so."""
    model = unwrap_model(runner.model)
    found = (_attribute(model, f'{path}.num_classes') for path in HEAD_NAMES)
    return next((n for n in found if isinstance(n, int)), None)


def _attribute(owner: Any, path: str) -> Any:
    """An attribute, or one of an attribute; None where it is not."""
    for name in path.split('.'):
        owner = getattr(owner, name, None)
    return owner
