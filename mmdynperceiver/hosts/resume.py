# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A training goes on from a checkpoint that fits in every part, or not."""
from typing import Any, Mapping, Optional

from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..errors import InputError, input_errors
from ..io.checkpoint_file import check_weights
from ..io.checkpoints import in_words, misfits
from .optimizer_state import check_like, check_optimizers, is_finite, need
from .wrappers import unwrap_model

__all__ = ['CheckCheckpointHook', 'check_resumable']

REMEDY = 'to start from its weights alone, give load_from instead'


@HOOKS.register_module()
class CheckCheckpointHook(Hook):
    """Refuse a checkpoint that does not fit before anything of it is used.

    mmengine warns about weights that do not fit and goes on with random
    values; an optimizer's state it takes unseen. To resume, or to test, all
    must fit; to start a training, what fits of the weights is taken.
    """

    # Before the hook that averages weights takes its own from the file.
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check a checkpoint that was read and is not loaded yet.

        Raises:
            InputError: Naming what does not fit.
        """
        # Built only where a training begins.
        training = isinstance(runner.optim_wrapper, BaseOptimWrapper)
        if runner._resume and training:
            check_resumable(runner, checkpoint)
            return
        need(isinstance(checkpoint, Mapping), 'the checkpoint is not a dict')
        weights = checkpoint.get('state_dict', checkpoint)
        own = None if training else unwrap_model(runner.model).state_dict()
        _check_state_dict(weights, own, 'the checkpoint')


def check_resumable(runner: Runner, checkpoint: Mapping[str, Any]) -> None:
    """Check all parts of a checkpoint from which a training is to go on.

    The runner's loops, optimizers and schedulers are built.

    Raises:
        InputError: Naming what is missing or does not fit.
    """
    hook = _hook(runner, CheckpointHook)
    needed = ['meta', 'state_dict', 'message_hub']
    if getattr(hook, 'save_optimizer', True):
        needed.append('optimizer')
    if runner.param_schedulers and getattr(hook, 'save_param_scheduler', True):
        needed.append('param_schedulers')
    missing = [name for name in needed if name not in checkpoint]
    try:
        need(not missing, f'the checkpoint has no {", ".join(missing)}')
        _check_meta(checkpoint['meta'])
        _check_message_hub(checkpoint['message_hub'])
        _check_state_dict(checkpoint['state_dict'],
                          unwrap_model(runner.model).state_dict(),
                          'state_dict')
        _check_average(runner, checkpoint)
        if 'optimizer' in checkpoint:
            check_optimizers(runner.optim_wrapper, checkpoint['optimizer'],
                             checkpoint['meta']['iter'])
        if 'param_schedulers' in checkpoint and runner.param_schedulers:
            _check_schedulers(runner.param_schedulers,
                              checkpoint['param_schedulers'])
    except InputError as error:
        raise InputError(f'cannot resume: {error}; {REMEDY}') from error


def _hook(runner: Runner, kind: type) -> Optional[Hook]:
    """The first hook of a kind."""
    return next((h for h in runner.hooks if isinstance(h, kind)), None)


def _check_state_dict(given: Any, own: Optional[Mapping[str, Any]],
                      what: str) -> None:
    """Check weights, and that they are those of a model if it is given."""
    need(isinstance(given, Mapping), f'{what} holds no weights')
    with input_errors(ValueError, where=f'{what}: '):
        weights = check_weights(given)
    problems = misfits(own, weights) if own is not None else {}
    need(
        not problems, f'{what} does not fit the model of the config; '
        f'{in_words(problems)}')


def _is_count(value: Any, bits: int = 63) -> bool:
    """Whether something is a whole number from 0 of so many bits."""
    return type(value) is int and 0 <= value < 1 << bits


def _check_meta(meta: Any) -> None:
    """Check how far the training was."""
    need(isinstance(meta, Mapping), 'its meta is not a dict')
    # mmengine would run it.
    need('config' not in meta, 'meta.config holds code')
    numbers = {name: meta.get(name) for name in ('epoch', 'iter')}
    if meta.get('seed') is not None:
        numbers['seed'] = meta['seed']
    for name, value in numbers.items():
        need(
            _is_count(value, 32 if name == 'seed' else 63),
            f'meta.{name} must be a whole number, got {value!r}')


def _check_message_hub(hub: Any) -> None:
    """Check the kinds of what mmengine takes from the message hub."""
    need(isinstance(hub, Mapping), 'its message_hub is not a dict')
    for name in ('log_scalars', 'runtime_info', 'resumed_keys'):
        need(
            isinstance(hub.get(name), Mapping),
            f'its message_hub has no {name}')
    need(
        all(isinstance(value, bool) for value in hub['resumed_keys'].values()),
        'its message_hub.resumed_keys are not all True or False')
    for name, value in hub['runtime_info'].items():
        fits, expected = True, ''
        if name == 'keep_ckpt_ids':
            expected = 'a list of whole numbers'
            fits = isinstance(value, list) and all(map(_is_count, value))
        elif str(name).startswith('best_score'):
            fits, expected = is_finite(value), 'a number'
        elif str(name).startswith('best_ckpt'):
            fits = value is None or isinstance(value, str)
            expected = 'a path'
        need(
            fits, f'message_hub.runtime_info.{name} must be {expected}, got '
            f'{value!r}')


def _check_average(runner: Runner, checkpoint: Mapping[str, Any]) -> None:
    """Check the moving average of the weights."""
    hook = _hook(runner, EMAHook)
    given = checkpoint.get('ema_state_dict')
    if hook is None:
        need(
            'ema_state_dict' not in checkpoint,
            'it was trained with a moving average of the weights (EMAHook), '
            'and the config has none')
        return
    need(
        'ema_state_dict' in checkpoint,
        'the config has a moving average of the weights (EMAHook), and the '
        'checkpoint has no ema_state_dict')
    own = {
        name.removeprefix('module.'): value
        for name, value in hook.ema_model.state_dict().items()
    }
    _check_state_dict(given, own, 'ema_state_dict')
    steps = int(given.get('steps', 0))
    need(steps >= 0, f'ema_state_dict.steps is {steps}')


def _check_schedulers(own: Any, given: Any) -> None:
    """Check the states of the parameter schedulers."""
    if isinstance(own, dict):
        need(
            isinstance(given, Mapping) and set(own) <= set(given),
            f'param_schedulers must be of {", ".join(own)}')
        for name in own:
            _check_schedulers(own[name], given[name])
        return
    need(
        isinstance(given, list) and len(given) == len(own),
        f'there must be {len(own)} param_schedulers')
    for index, (scheduler, state) in enumerate(zip(own, given)):
        where, mine = f'param_schedulers[{index}]', scheduler.state_dict()
        strangers = [name for name in state if name not in mine] if isinstance(
            state, Mapping) else []
        need(
            not strangers, f'{where}.{", ".join(map(str, strangers))} is of '
            f'another kind of scheduler')
        check_like(where, mine, state)
