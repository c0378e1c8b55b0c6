# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From a checkpoint and held-out images to an operating point."""
import argparse
import copy
import dataclasses
import os
from typing import (Any, Dict, Iterator, List, Mapping, Optional, Sequence,
                    Union)

import torch
from mmengine.config import Config
from torch import nn

from ..calibration.goals import Goal
from ..calibration.held_out import HeldOut, Outcome, evaluate, fit_temperature
from ..calibration.intervals import wilson_interval
from ..calibration.share_solver import (paper_shares,
                                        share_solution_for_budget,
                                        solve_by_shares)
from ..calibration.threshold_search import ThresholdSearch, search_thresholds
from ..core import ExitPolicy, OperatingPoint
from ..errors import InputError
from ..io.atomic import write_json
from ..io.checkpoint_file import read_checkpoint
from ..io.checkpoints import atomic_save
from ..io.fingerprints import (POLICY_STATE, data_fingerprint,
                               settings_fingerprint, weights_fingerprint)
from ..version import __version__
from .build import (LabelledData, iter_batches, model_of, overlap,
                    split_config, test_transform)
from .exit_logits import ExitLogits, iter_exit_logits
from .held_out_data import check_images
from .logit_cache import CachedLogits, cached_exit_logits

__all__ = [
    'SOLVERS', 'check_held_out', 'embed_point', 'evaluate_on',
    'fit_temperatures', 'outcome_dict', 'run_exits', 'solve', 'solve_sweep',
    'sources_of', 'training_data_config', 'write_points'
]

SOLVERS = ('search', 'shares')
# Folder of the logits, in the work folder.
CACHE = 'logits'
# Budgets at which the share-based solver looks for a floor on accuracy.
FLOOR_STEPS = 200


def sources_of(config: Config,
               weights: Mapping[str, Any],
               data: LabelledData,
               description: str = 'reading images') -> dict:
    """Fingerprints of all that the logits depend on.

    Args:
        config (Config): The whole config.
        weights (Mapping[str, Any]): The checkpoint's state dict.
        data (LabelledData): The images.
        description (str): Stands beside the progress bar. Defaults to
            'reading images'.
    """
    return dict(
        checkpoint=weights_fingerprint(weights),
        model=settings_fingerprint(model_of(config)),
        data=data_fingerprint(data.root, data.identities(),
                              os.path.join(config.work_dir, CACHE, 'files'),
                              description),
        transform=settings_fingerprint(test_transform(config)),
        version=__version__)


def run_exits(model: nn.Module, data: LabelledData, config: Config, split: str,
              sources: Mapping[str, str], description: str) -> CachedLogits:
    """Run the network once over images, or take the logits from the cache.

    Args:
        model (nn.Module): An early-exit model with its weights.
        data (LabelledData): The images.
        config (Config): The whole config: its work folder holds the cache.
        split (str): The data loader of the config whose settings count.
        sources (Mapping[str, str]): What :func:`sources_of` says.
        description (str): Stands beside the progress bar.
    """
    loader = config[f'{split}_dataloader']
    device = next(model.parameters()).device.type

    def run(start: int) -> Iterator[ExitLogits]:
        return iter_exit_logits(model, iter_batches(data, loader, start))

    cached = cached_exit_logits(
        os.path.join(config.work_dir, CACHE), dict(sources, device=device),
        len(data.labels), run, description)
    # The data may have moved since.
    exits = cached.exits._replace(paths=list(data.paths))
    return cached._replace(exits=exits)


def check_held_out(data: LabelledData,
                   num_classes: int,
                   training: Optional[LabelledData],
                   remedy: str,
                   known: Optional[Sequence[str]] = None) -> None:
    """Refuse images from which no thresholds can be learned.

    Args:
        data (LabelledData): The held-out images.
        num_classes (int): Number of classes that the model knows.
        training (LabelledData, optional): The training images.
        remedy (str): What to do about an overlap.
        known (Sequence[str], optional): Names of the classes in the
            checkpoint. Defaults to None.

    Raises:
        InputError: If there are none, all are of one class, they have other
            classes than the model, or some are training images.
    """
    check_images('held-out images', data, num_classes, known)
    if len(set(data.labels)) < 2:
        label = data.labels[0]
        names = data.classes or known
        raise InputError(
            f'all {len(data.labels)} held-out images are of class '
            f'{repr(names[label]) if names else label}; thresholds need '
            f'images as mixed as those to come')
    if training is None:
        return
    number, first = overlap(data, training)
    if number:
        raise InputError(
            f'{number} of the {len(data.labels)} held-out images are training '
            f'images, the first: {first!r}; {remedy}')


def fit_temperatures(exits: ExitLogits) -> List[float]:
    """The temperature of each exit that suits held-out images best."""
    return [fit_temperature(logits, exits.labels) for logits in exits.logits]


def solve(held_out: HeldOut, goal: Goal, solver: str) -> Sequence[float]:
    """Solve thresholds for a goal.

    Args:
        held_out (HeldOut): Confidences of held-out images.
        goal (Goal): What is asked for.
        solver (str): 'search' or 'shares'.

    Returns:
        Sequence[float]: One threshold for each exit but the last.

    Raises:
        ValueError: If no thresholds reach the goal.
    """
    if solver == 'search':
        return search_thresholds(
            held_out,
            goal.costs,
            budget=goal.budget,
            min_accuracy=goal.min_accuracy)
    if goal.budget is not None:
        return share_solution_for_budget(held_out, goal.costs, goal.budget)
    return _cheapest_shares(held_out, goal)


def _cheapest_shares(held_out: HeldOut, goal: Goal) -> Sequence[float]:
    """The cheapest share-based thresholds that reach the floor."""
    assert goal.min_accuracy is not None
    low, high = goal.costs[0], goal.costs[-1]
    best = 0.
    for step in range(FLOOR_STEPS + 1):
        budget = low + (high - low) * step / FLOOR_STEPS
        thresholds = share_solution_for_budget(held_out, goal.costs,
                                               min(budget, high))
        accuracy = evaluate(held_out, thresholds, goal.costs).accuracy
        if accuracy >= goal.min_accuracy:
            return thresholds
        best = max(best, accuracy)
    raise InputError(f'no share-based thresholds reach the accuracy '
                     f'{goal.min_accuracy:.4f} on the held-out images: the '
                     f'best have {best:.4f}')


def solve_sweep(held_out: HeldOut, costs: Sequence[float],
                solver: str) -> List[Sequence[float]]:
    """Thresholds of the published sweep.

    Args:
        held_out (HeldOut): Confidences of held-out images.
        costs (Sequence[float]): Cumulative cost of each exit.
        solver (str): 'shares' for the published shares; 'search' for the
            best thresholds at what these cost.
    """
    points: List[Sequence[float]] = [
        solve_by_shares(held_out, shares)
        for shares in paper_shares(len(costs))
    ]
    if solver == 'shares':
        return points
    budgets = [evaluate(held_out, point, costs).cost for point in points]
    search = ThresholdSearch(held_out, costs)
    return [search.for_budget(budget) for budget in budgets]


def outcome_dict(outcome: Outcome, macs: Sequence[float],
                 latencies: Optional[Sequence[float]],
                 num_images: int) -> dict:
    """What an operating point brings, for its file.

    Args:
        outcome (Outcome): What was found.
        macs (Sequence[float]): Mean MACs up to each exit.
        latencies (Sequence[float], optional): Milliseconds up to each exit.
        num_images (int): On how many images it was found, for the intervals
            of 95 %.
    """
    accuracy, *shares = (
        wilson_interval(share * num_images, num_images)
        for share in (outcome.accuracy, *outcome.shares))
    spent: Dict[str, Any] = dict(
        accuracy=outcome.accuracy,
        accuracy_interval=list(accuracy),
        shares=list(outcome.shares),
        shares_interval=[list(interval) for interval in shares],
        macs=_mean(outcome.shares, macs),
        macs_per_exit=list(macs))
    if latencies is not None:
        spent['latency_ms'] = _mean(outcome.shares, latencies)
    return spent


def evaluate_on(point: OperatingPoint, exits: ExitLogits,
                latencies: Optional[Sequence[float]]) -> dict:
    """What an operating point brings on other images, for its file."""
    samples = HeldOut.of(exits.logits, exits.labels, point.criterion,
                         point.temperature)
    outcome = evaluate(samples, point.thresholds, exits.macs)
    return outcome_dict(outcome, exits.macs, latencies, len(exits.labels))


def _mean(shares: Sequence[float], costs: Sequence[float]) -> float:
    """Mean cost of one sample."""
    return float(sum(share * cost for share, cost in zip(shares, costs)))


def embed_point(checkpoint: str, point: OperatingPoint,
                out: Union[str, os.PathLike]) -> None:
    """Write a copy of a checkpoint that carries an operating point.

    Args:
        checkpoint (str): The checkpoint; it stays as it is.
        point (OperatingPoint): What the copy carries.
        out (str | PathLike): The copy, written whole or not at all.

    Raises:
        InputError: If the copy would replace the checkpoint.
    """
    if os.path.realpath(out) == os.path.realpath(
            os.path.expanduser(checkpoint)):
        raise InputError(f'the copy would replace the checkpoint '
                         f'{checkpoint!r}: give another name')
    content = dict(read_checkpoint(os.path.expanduser(checkpoint)))
    state = ExitPolicy.from_operating_point(point).get_extra_state()
    if 'state_dict' not in content:
        atomic_save(_with_state(content, state), out)
        return
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


def write_points(args: argparse.Namespace,
                 points: Sequence[OperatingPoint]) -> None:
    """Write operating points, and a checkpoint that carries the first.

    Args:
        args (Namespace): With ``checkpoint``, ``out`` and ``embed``.
        points (Sequence[OperatingPoint]): One, or those of a sweep.
    """
    verb = _verb(args.out)
    if len(points) > 1:
        write_json(args.out,
                   dict(points=[dataclasses.asdict(p) for p in points]))
    else:
        points[0].save(args.out)
    print(f'{verb} {args.out}')
    if args.embed is not None:
        verb = _verb(args.embed)
        embed_point(args.checkpoint, points[0], args.embed)
        print(f'{verb} {args.embed}')


def _verb(path: str) -> str:
    """What writing a file does."""
    return 'replaced' if os.path.exists(path) else 'wrote'


def training_data_config(config: Config) -> Optional[dict]:
    """The training data, if the config has some and they are there."""
    if not config.get('train_dataloader'):
        return None
    dataset = split_config(config, 'train')
    root = dataset.get('data_root') or ''
    if root and '://' not in root and not os.path.isdir(
            os.path.expanduser(root)):
        return None
    return dataset
