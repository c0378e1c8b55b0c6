# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Schedules of the learning rate that fit runs of every length."""
import copy
from typing import Any, Dict, List, Optional, Tuple

from mmengine.optim.scheduler.param_scheduler import INF

__all__ = ['fit_schedule', 'short_schedule', 'type_name']

# Largest share of a run that may go to the warm-up.
WARMUP_SHARE = 0.25
# Schedulers whose marks can be counted in steps instead of epochs.
KINDS = ('LinearLR', 'ConstantLR', 'CosineAnnealingLR', 'MultiStepLR',
         'StepLR', 'PolyLR')
# What these measure in epochs or steps.
MARKS = ('begin', 'end', 'T_max', 'step_size', 'milestones')


def fit_schedule(schedulers: Any, num_steps: int,
                 epoch_length: int) -> Tuple[Any, Optional[str]]:
    """Fit mmengine's schedulers of one optimizer to the length of a run.

    A schedule that was made for a longer run shrinks to this one as a whole,
    and the warm-up takes a quarter of it at most. Where that is less than
    two steps, there is no warm-up: of one step, mmengine would never leave
    it. A schedule that fits stays as it is, as does what is none; one
    without an ``end`` follows the run by itself.

    Returns:
        tuple: The schedulers, counted in steps where something was changed,
        and what to tell the user, if anything.
    """
    configs = [schedulers] if isinstance(schedulers, dict) else schedulers
    if not isinstance(configs, (list, tuple)) or not configs or not all(
            isinstance(c, dict) and type_name(c) in KINDS for c in configs):
        return schedulers, None
    given = [_in_steps(config, epoch_length) for config in configs]
    fitted = _fit(copy.deepcopy(given), num_steps)
    if fitted != given:
        parts = ', '.join(f'{type_name(c)} from step {c.get("begin", 0):,} to '
                          f'{c.get("end", num_steps):,}' for c in fitted
                          if c.get('factor', c.get('start_factor')) != 1)
        return fitted, (f'the schedule of the learning rate is fitted to '
                        f'{num_steps:,} steps: {parts or "constant"}')
    last = max(config.get('end', num_steps) for config in given)
    if last < num_steps:
        return schedulers, short_schedule(last, num_steps)
    return schedulers, None


def short_schedule(last: int, num_steps: int) -> str:
    """What to say where a schedule ends before the run."""
    return (f'the schedule of the learning rate ends at step {last:,} of '
            f'{num_steps:,}: from there on it stays as it is')


def _fit(configs: List[Dict[str, Any]],
         num_steps: int) -> List[Dict[str, Any]]:
    """Fit schedulers that count in steps; see above."""
    decays = [config for config in configs if not _is_warmup(config)]
    planned = max(map(_planned_end, decays), default=0)
    if planned > num_steps:
        for config in configs:
            _scale(config, num_steps / planned)
    limit = int(WARMUP_SHARE * num_steps)
    for config in configs:
        if _is_warmup(config) and not 2 <= config['end'] <= limit:
            old = config['end']
            new = min(max(old, 2), limit) if limit > 1 else 0
            for other in configs:
                if other.get('begin') == old:
                    other['begin'] = new
            config['end'] = new or 2
            if not new:
                # It stays in its place: a resumed run counts schedulers.
                name = 'factor' if 'Constant' in type_name(config) else \
                    'start_factor'
                config.update({name: 1.})
    # What begins where it ends has nothing to do.
    return [
        config for config in configs
        if config.get('begin', 0) < config.get('end', num_steps)
    ]


def type_name(config: Dict[str, Any]) -> str:
    """Name of the class (without scope) that a config asks for."""
    kind = config.get('type')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def _in_steps(config: Dict[str, Any], epoch_length: int) -> Dict[str, Any]:
    """A scheduler that counts in steps."""
    config = dict(copy.deepcopy(config))
    if config.get('by_epoch', True):
        config.pop('convert_to_iter_based', None)
        config['by_epoch'] = False
        _scale(config, epoch_length)
    return config


def _scale(config: Dict[str, Any], factor: float) -> None:
    """Scale what a scheduler measures."""
    for name in MARKS:
        value = config.get(name)
        if isinstance(value, (list, tuple)):
            # One at step 0 would lower the rate from the start.
            marks = [round(mark * factor) for mark in value]
            config[name] = [mark for mark in marks if mark > 0]
        elif value is not None:
            least = 1 if name in ('T_max', 'step_size') else 0
            config[name] = max(least, round(value * factor))


def _planned_end(config: Dict[str, Any]) -> int:
    """Where the plan of a scheduler ends, 0 if it does not say so."""
    if config.get('end') is not None:
        return config['end'] if config['end'] < INF else 0
    return config.get('begin', 0) + (config.get('T_max') or 0)


def _is_warmup(config: Dict[str, Any]) -> bool:
    """Tell a scheduler that begins the run with smaller rates."""
    if config.get('begin', 0) or config.get('end') is None:
        return False
    if type_name(config) == 'LinearLR':
        return config.get('start_factor', 1 / 3) < config.get('end_factor', 1.)
    return type_name(config) == 'ConstantLR'
