# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What leaving early brings, as a picture of each validation."""
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.dist import collect_results, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from ..calibration.outcomes import ExitOutcomes
from ..calibration.share_solver import paper_shares, solve_by_shares
from ..core.criteria import confidences
from ..core.ensembles import ensemble_logits
from .wrappers import unwrap_model

__all__ = ['ExitCurveHook']

NAME = 'accuracy_macs'
# What is drawn, where metrics have it of each exit, and what it is called.
MEASURES = dict(top1=('top-1 accuracy', 1.), bbox_mAP=('box mAP', 100.))
DPI = 100


class _Exits(NamedTuple):
    """What metrics say of the exits, in percent, and of leaving early."""

    measure: str
    macs: List[float]
    percent: List[float]
    now: Tuple[float, float]  # MACs and percent


@HOOKS.register_module()
class ExitCurveHook(Hook):
    """Draw accuracy against MACs after each validation.

    The picture goes to mmengine's visualizer, and so to every backend of the
    config: files (``vis_data/vis_image/``), TensorBoard, W&B, MLflow. It has
    each exit, the thresholds at hand and, of classes, what thresholds would
    bring that let more and more samples go on. These are solved and judged on
    the same samples, so they flatter a little. The numbers of each exit go
    there by mmengine's own ``LoggerHook``.

    Needs :class:`EvaluateAllExitsHook`; without the metrics of each exit
    there is nothing to draw.

    Args:
        interval (int): Draw every so many validations. Defaults to 1.

    Raises:
        ValueError: If the interval is no positive whole number.
    """

    # After the numbers are logged.
    priority = 'LOW'

    def __init__(self, interval: int = 1) -> None:
        if type(interval) is not int or interval < 1:
            raise ValueError(f'interval must be a positive whole number, got '
                             f'{interval!r}')
        self.interval = interval
        self._validations = 0
        self._draws = True
        self._answers: List[Tuple[float, ...]] = []

    def before_val_epoch(self, runner: Runner) -> None:
        """Forget the last validation."""
        self._answers = []
        self._draws = self._validations % self.interval == 0
        self._validations += 1

    def after_val_iter(self,
                       runner: Runner,
                       batch_idx: int,
                       data_batch: Any = None,
                       outputs: Optional[Sequence[Any]] = None) -> None:
        """Keep how sure each exit is of each sample, and whether right."""
        if self._draws and outputs and all(
                'exit_logits' in s and 'gt_label' in s for s in outputs):
            self._answers += _answers(unwrap_model(runner.model), outputs)

    def after_val_epoch(self,
                        runner: Runner,
                        metrics: Optional[Dict[str, float]] = None) -> None:
        """Draw."""
        if not self._draws:
            return
        answers = collect_results(self._answers,
                                  len(runner.val_dataloader.dataset), 'cpu')
        exits = _read(metrics or {})
        if not is_main_process() or exits is None:
            return
        by_iter = isinstance(
            getattr(runner, '_train_loop', None), IterBasedTrainLoop)
        step = runner.iter if by_iter else runner.epoch
        policy = getattr(unwrap_model(runner.model), 'policy', None)
        image = _draw(exits, _curve(answers or [], exits.macs),
                      f'{"iteration" if by_iter else "epoch"} {step}',
                      getattr(policy, 'thresholds', None) is not None)
        add_image(runner.visualizer, NAME, image, step)


def add_image(visualizer: Any, name: str, image: np.ndarray,
              step: int) -> None:
    """Give a picture (H, W, 3), RGB, uint8, to all backends."""
    for backend in visualizer._vis_backends.values():
        # MLflow keeps a file, of which the name tells the format.
        is_file = type(backend).__name__.startswith('MLflow')
        backend.add_image(f'{name}_{step}.png' if is_file else name, image,
                          step)


def _answers(model: nn.Module,
             samples: Sequence[Any]) -> List[Tuple[float, ...]]:
    """Of each sample the confidence of each exit, then whether it is right."""
    policy: Any = model.policy
    # [(num_exits, K)] * B -> num_exits * [(B, K)]
    logits = torch.stack([s.exit_logits for s in samples], 1).float().unbind()
    labels = torch.cat([s.gt_label.reshape(-1)[:1] for s in samples])
    answers = ensemble_logits(logits, policy.ensemble)
    right = torch.stack([x.argmax(-1) == labels.to(x.device) for x in answers])
    sure = confidences(answers, policy.criterion, policy.temperature,
                       policy.stopping)
    return [tuple(row) for row in torch.cat([sure, right]).T.tolist()]


def _read(metrics: Dict[str, float]) -> Optional[_Exits]:
    """The exits' accuracy and MACs, where metrics have both."""
    macs = _of_exits(metrics, 'macs')
    for name, (measure, scale) in MEASURES.items():
        found = [scale * value for value in _of_exits(metrics, name)]
        at, now = metrics.get('dynamic/macs'), metrics.get(f'dynamic/{name}')
        if at is None or now is None or len(found) != len(macs):
            continue
        if len(found) > 1:
            return _Exits(measure, macs, found, (at, scale * now))
    return None


def _of_exits(metrics: Dict[str, float], name: str) -> List[float]:
    """One number of each exit, shallow to deep."""
    found = {
        int(match[1]): float(value)
        for key, value in metrics.items()
        if (match := re.fullmatch(rf'exit(\d+)/{name}', key))
    }
    return [found[k] for k in sorted(found)]


def _curve(answers: Sequence[Tuple[float, ...]],
           macs: Sequence[float]) -> List[Tuple[float, float]]:
    """MACs and percent of the published shares, cheap to expensive."""
    if not answers:
        return []  # no classes
    sure, right = torch.tensor(answers).T.split(len(macs))
    if not sure.isfinite().all():
        return []  # the network has diverged
    outcomes = ExitOutcomes(sure, right.bool(), macs)
    points = [
        outcomes.evaluate(solve_by_shares(sure, shares))
        for shares in paper_shares(len(macs))
    ]
    ends = outcomes.static()
    return sorted((point.cost, 100 * point.utility)
                  for point in (ends[0], *points, ends[-1]))


def _draw(exits: _Exits, curve: Sequence[Tuple[float, float]], title: str,
          has_thresholds: bool) -> np.ndarray:
    """The picture, RGB (H, W, 3), uint8."""
    # Imported here: only validations need Matplotlib.
    from ..report.curve import Curve, plot_accuracy_macs
    from ..report.figure import figure_pixels
    curves = [
        Curve(
            'always the same exit',
            exits.macs,
            exits.percent,
            labels=[f'exit {k}' for k in range(len(exits.macs))])
    ]
    if curve:
        costs, percent = zip(*curve)
        name = 'leaving early, thresholds of these samples'
        curves.insert(0, Curve(name, costs, percent))
    chosen = (*exits.now, 'the thresholds at hand') if has_thresholds else None
    return figure_pixels(
        plot_accuracy_macs(
            curves, title=title, chosen=chosen, measure=exits.measure), DPI)
