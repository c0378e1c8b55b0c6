# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Operating points: solved, described, written, and put into checkpoints."""
import copy
import dataclasses
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import torch

from ..core import ExitPolicy, OperatingPoint
from ..core.complexity import expected_cost
from ..core.ensembles import ensemble_logits
from ..core.operating_point import check_certificate
from ..errors import InputError
from ..io.atomic import write_json
from ..io.checkpoint_file import atomic_save, read_checkpoint
from ..io.fingerprints import POLICY_STATE
from .confidence import fit_temperature
from .ensembles import fit_ensemble
from .exit_logits import ExitLogits
from .goals import Goal, solve
from .intervals import wilson_interval
from .learned_stopping import fit_stopping
from .outcomes import ExitOutcomes, check_samples
from .risk_control import solve_certified, split_held_out

__all__ = [
    'describe_outcome', 'embed_point', 'outcomes_of', 'solve_points',
    'write_points'
]

Path = Union[str, os.PathLike]


def outcomes_of(point: OperatingPoint, exits: ExitLogits) -> ExitOutcomes:
    """Judge exits by what the thresholds of an operating point mean."""
    return exits.outcomes(**point.settings)


def solve_points(exits: ExitLogits,
                 goal: Goal,
                 solver: str = 'search',
                 criterion: str = 'max_prob',
                 fit: bool = False,
                 given: Optional[OperatingPoint] = None,
                 latencies: Optional[Sequence[float]] = None,
                 ensemble: Optional[str] = None,
                 learner: str = 'induction',
                 **about: Any) -> List[OperatingPoint]:
    """From the logits of held-out samples to operating points.

    Args:
        exits (ExitLogits): The held-out samples.
        goal (Goal): What is asked for.
        solver (str): 'search' or 'shares'. Defaults to 'search'.
        criterion (str): What thresholds are compared with. Defaults to
            ``max_prob``.
        fit (bool): Whether to fit a temperature for each exit first.
        given (OperatingPoint, optional): What to measure, instead of solving
            anything.
        latencies (Sequence[float], optional): Milliseconds up to each exit.
        ensemble (str, optional): One of ``ENSEMBLES``. Defaults to None.
        learner (str): How the criterion 'logistic' is learned, one of
            ``LEARNERS``. Defaults to 'induction'.
        **about: What else to note: ``data``, ``checkpoint``, ``model``.

    Returns:
        list[OperatingPoint]: One, or those of the sweep, with what they
        bring on these samples in ``expected``.

    Raises:
        InputError: If what is given is certified for something else.
        ValueError: If nothing can be learned from the samples, or no
            thresholds reach the goal.
    """
    made_for = {
        name: about.get(part, {}).get(key)
        for name, part, key in (('weights', 'checkpoint', 'fingerprint'),
                                ('images', 'data', 'fingerprint'),
                                ('transform', 'data', 'transform'))
    }
    if given is None:
        found = _solve(exits, goal, solver, criterion, fit, ensemble, learner)
        for point in found:
            if point.certificate:
                point.certificate['made_for'] = made_for
    else:
        check_certificate(given.certificate, **made_for)
        found = [given]
    return [
        dataclasses.replace(
            point,
            expected=describe_outcome(
                outcomes_of(point, exits), point.thresholds, latencies),
            **about) for point in found
    ]


def _solve(exits: ExitLogits, goal: Goal, solver: str, criterion: str,
           fit: bool, ensemble: Optional[str],
           learner: str) -> List[OperatingPoint]:
    """What :func:`solve_points` solves, without what it brings."""
    certificate: Dict[str, Any] = {}
    settings, answers = _fit_settings(exits, goal, criterion, fit, ensemble,
                                      learner)
    outcomes = exits.outcomes(**settings)
    if goal.max_risk is None:
        solved = solve(outcomes, goal, solver)
    else:
        worth = exits.utility.T if exits.utility is not None else \
            torch.stack([logits.argmax(-1) for logits in answers])
        thresholds, certificate = solve_certified(
            outcomes.with_cost(goal.costs), worth, goal.max_risk,
            goal.certainty, goal.risk, exits.labels)
        solved = [(thresholds, dict(max_risk=goal.max_risk, risk=goal.risk))]
    return [
        OperatingPoint(
            tuple(thresholds),
            num_exits=outcomes.num_exits,
            solver=solver,
            solved_for=solved_for,
            certificate=certificate,
            **settings) for thresholds, solved_for in solved
    ]


def _fit_settings(exits: ExitLogits, goal: Goal, criterion: str, fit: bool,
                  ensemble: Optional[str], learner: str) -> Any:
    """What the thresholds will mean, and the logits that exits answer with."""
    # What certifies must not have chosen anything.
    rows = slice(None) if goal.max_risk is None else \
        split_held_out(len(exits.paths))[0]
    settings: Dict[str, Any] = dict(criterion=criterion)
    if ensemble is not None:
        settings['ensemble'] = fit_ensemble(ensemble, exits, rows)
    answers = ensemble_logits(exits.logits, settings.get('ensemble'))
    if fit:
        settings['temperature'] = tuple(
            fit_temperature(logits[rows], exits.labels[rows])
            for logits in answers)
    if criterion == 'logistic':
        check_samples(exits.logits, exits.labels)
        known = [logits[rows] for logits in answers]
        wanted = exits.labels[rows]
        if goal.max_risk is not None and goal.risk == 'disagreement':
            wanted = known[-1].argmax(-1)
        right = torch.stack([logits.argmax(-1) == wanted for logits in known])
        settings['stopping'] = fit_stopping(
            known, right, goal.costs, goal.budget, goal.min_utility,
            wanted if learner == 'jei-dnn' else None)
    return settings, answers


def describe_outcome(outcomes: ExitOutcomes,
                     thresholds: Sequence[float],
                     latencies: Optional[Sequence[float]] = None) -> dict:
    """What thresholds bring, for the file of an operating point.

    ``accuracy`` or ``utility``, ``shares`` of the exits, 95 % intervals of
    shares and accuracy, ``macs`` (the unit of the outcomes' costs),
    ``macs_per_exit``, and ``latency_ms`` by milliseconds up to each exit.
    """
    outcome = outcomes.evaluate(thresholds)
    number = outcomes.num_samples
    spent: Dict[str, Any] = {outcomes.measure: outcome.utility}
    if outcomes.measure == 'accuracy':
        spent['accuracy_interval'] = _interval(outcome.utility, number)
    spent.update(
        shares=list(outcome.shares),
        shares_interval=[_interval(share, number) for share in outcome.shares],
        macs=outcome.cost,
        macs_per_exit=list(outcomes.cost))
    if latencies is not None:
        spent['latency_ms'] = expected_cost(outcome.shares, latencies)
    return spent


def _interval(share: float, number: int) -> List[float]:
    """The interval of 95 % of a share of so many samples."""
    return list(wilson_interval(share * number, number))


def write_points(points: Sequence[OperatingPoint],
                 out: Path,
                 checkpoint: str = '',
                 embed: Optional[str] = None) -> None:
    """Write one operating point, or those of a sweep, and say so.

    Into the file ``embed`` goes a copy of the checkpoint with the first one.
    """
    verb = _verb(out)
    if len(points) > 1:
        write_json(out, dict(points=[dataclasses.asdict(p) for p in points]))
    else:
        points[0].save(out)
    print(f'{verb} {out}')
    if embed is not None:
        verb = _verb(embed)
        embed_point(checkpoint, points[0], embed)
        print(f'{verb} {embed}')


def _verb(path: Path) -> str:
    """What writing a file does."""
    return 'replaced' if os.path.exists(path) else 'wrote'


def embed_point(checkpoint: str, point: OperatingPoint, out: Path) -> None:
    """Write a copy of a checkpoint that carries an operating point.

    Raises:
        InputError: If the copy would replace the checkpoint.
    """
    checkpoint = os.path.expanduser(checkpoint)
    if os.path.realpath(out) == os.path.realpath(checkpoint):
        raise InputError(f'the copy would replace the checkpoint '
                         f'{checkpoint!r}: give another name')
    content = dict(read_checkpoint(checkpoint))
    state = ExitPolicy.from_operating_point(point).get_extra_state()
    if 'state_dict' not in content:
        content = _with_state(content, state)  # type: ignore[assignment]
    for name in ('state_dict', 'ema_state_dict'):
        if isinstance(content.get(name), Mapping):
            content[name] = _with_state(content[name], state)
    atomic_save(content, out)


def _with_state(weights: Mapping[str, Any],
                state: torch.Tensor) -> Mapping[str, Any]:
    """A copy of a state dict with the policy's state."""
    weights = copy.copy(weights)
    prefix = 'module.' if any(name.startswith('module.')
                              for name in weights) else ''
    weights[prefix + POLICY_STATE] = state  # type: ignore[index]
    return weights
