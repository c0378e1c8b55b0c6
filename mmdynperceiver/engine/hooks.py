# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Hooks for early-exit models, whatever their task."""
from functools import partial
from typing import Any, Optional, Sequence

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from torch import nn

from ..core import MODES, in_mode
from .errors import InputError
from .views import find_tta, merge_views

__all__ = [
    'CheckDataHook', 'EvaluateAllExitsHook', 'InferenceModeHook',
    'unwrap_model'
]

# Where the hosts keep the head: MMPretrain, MMAction2, MMDetection.
HEAD_NAMES = ('head', 'cls_head', 'bbox_head', 'roi_head.bbox_head')


def unwrap_model(model: nn.Module) -> nn.Module:
    """Get the model itself out of what distributes or augments it."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


@HOOKS.register_module()
class EvaluateAllExitsHook(Hook):
    """Run all exits in one pass while metrics watch.

    Metrics then see every exit, and the thresholds are replayed on them;
    elsewhere the model keeps really stopping. Under test-time augmentation
    the views are merged at each exit, and their MACs add up.

    Args:
        val (bool): Whether in validation. Defaults to True.
        test (bool): Whether in test. Defaults to True.

    Raises:
        InputError: At the start of a run, if the model has no exits.
    """

    def __init__(self, val: bool = True, test: bool = True) -> None:
        self.val = val
        self.test = test

    def before_run(self, runner: Any) -> None:
        """Refuse models without exits before any work is done."""
        model = unwrap_model(runner.model)
        if not hasattr(model, 'evaluate_all_exits'):
            raise InputError(
                f'EvaluateAllExitsHook is for early-exit models, got '
                f'{type(model).__name__}: remove it from custom_hooks')

    def before_val(self, runner: Any) -> None:
        """Switch on."""
        unwrap_model(runner.model).evaluate_all_exits = self.val

    def after_val(self, runner: Any) -> None:
        """Switch off."""
        unwrap_model(runner.model).evaluate_all_exits = False

    def before_test(self, runner: Any) -> None:
        """Switch on."""
        unwrap_model(runner.model).evaluate_all_exits = self.test
        wrapper = find_tta(runner.model)
        if wrapper is not None:
            wrapper.merge_preds = partial(merge_views, wrapper.merge_preds)

    def after_test(self, runner: Any) -> None:
        """Switch off."""
        unwrap_model(runner.model).evaluate_all_exits = False
        wrapper = find_tta(runner.model)
        if wrapper is not None:
            del wrapper.merge_preds  # the host's own is back


@HOOKS.register_module()
class InferenceModeHook(Hook):
    """Test with a prepared or compiled copy of the model.

    It is made when the weights are final: after a weight average has taken
    the place of the trained ones.

    Args:
        mode (str): One of ``core.MODES``. Defaults to 'prepared'.
        image_size (Sequence[int]): Height and width of the test images;
            others are right too, but slower. Defaults to (224, 224).

    Raises:
        ValueError: If there is no such mode.
    """

    priority = 'VERY_LOW'

    def __init__(self,
                 mode: str = 'prepared',
                 image_size: Sequence[int] = (224, 224)) -> None:
        if mode not in MODES:
            raise ValueError(f'mode must be one of {", ".join(MODES)}, got '
                             f'{mode!r}')
        self.mode = mode
        self.image_size = tuple(image_size)
        self._original: Optional[nn.Module] = None

    def before_test_epoch(self, runner: Any) -> None:
        """Put the copy in the model's place."""
        self._original = runner.model
        runner.model = in_mode(
            unwrap_model(runner.model).eval(), self.mode, self.image_size)

    def after_test_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Give the model its place back."""
        runner.model = self._original
        self._original = None


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Refuse data that do not fit the model, and report skipped files.

    Before the first iteration the number of classes of each data set must be
    that of the model's head, and training and validation must have the same
    classes in the same order: a missing folder would shift all labels.
    """

    def before_train(self, runner: Any) -> None:
        """Check the data of training and of the validation between."""
        train = runner.train_dataloader.dataset
        self._check(runner, train, 'train')
        if runner.val_loop is None:
            return
        val = runner.val_dataloader.dataset
        self._check(runner, val, 'val')
        classes, other = _class_names(train), _class_names(val)
        if classes and other and classes != other:
            differing = sorted(set(classes) ^ set(other))
            what = f'only one of them has {_first(differing)}' \
                if differing else 'their order differs'
            raise InputError(
                f'the training data have {len(classes)} classes and the '
                f'validation data {len(other)}, and {what}: give both the '
                f'same class folders')

    def before_val(self, runner: Any) -> None:
        """Check the validation data."""
        self._check(runner, runner.val_dataloader.dataset, 'val')

    def before_test(self, runner: Any) -> None:
        """Check the test data."""
        self._check(runner, runner.test_dataloader.dataset, 'test')

    def after_train_epoch(self, runner: Any) -> None:
        """Report how many files were skipped so far."""
        num_broken = getattr(runner.train_dataloader.dataset, 'num_broken', 0)
        if num_broken:
            runner.logger.warning(
                f'{num_broken} broken training images were skipped so far')

    def _check(self, runner: Any, dataset: Any, name: str) -> None:
        """Compare a data set's classes with the head's."""
        model = unwrap_model(runner.model)
        heads = [_attribute(model, path) for path in HEAD_NAMES]
        expected = [
            head.num_classes for head in heads
            if isinstance(getattr(head, 'num_classes', None), int)
        ]
        if not expected:
            return
        classes = _class_names(dataset)
        remedy = 'set model.head.num_classes or choose the right data'
        if classes is not None and len(classes) != expected[0]:
            raise InputError(
                f'the {name} data have {len(classes)} classes '
                f'({_first(classes)}) and the model has {expected[0]}: '
                f'{remedy}')
        num_labels = getattr(dataset, 'num_labels', 0)
        if num_labels > expected[0]:
            raise InputError(
                f'the {name} data have labels up to {num_labels - 1} and the '
                f'model has {expected[0]} classes: {remedy}')


def _attribute(owner: Any, path: str) -> Any:
    """An attribute, or one of an attribute; None where it is not."""
    for name in path.split('.'):
        owner = getattr(owner, name, None)
    return owner


def _class_names(dataset: Any) -> Optional[Sequence[str]]:
    """Class names of a data set, if it knows them."""
    return getattr(dataset, 'metainfo', {}).get('classes')


def _first(names: Sequence[str], count: int = 5) -> str:
    """The first names, in words."""
    shown = ', '.join(repr(name) for name in names[:count])
    return shown + (', ...' if len(names) > count else '')
