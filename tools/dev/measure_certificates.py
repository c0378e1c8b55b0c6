# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Whether certificates hold on fresh images, and what they save."""
from typing import Any, Dict, List, Optional

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mmdynperceiver.calibration import risk_control
from mmdynperceiver.calibration.exit_logits import ExitLogits
from mmdynperceiver.calibration.outcomes import ExitOutcomes
from mmdynperceiver.calibration.threshold_search import ThresholdSearch
from mmdynperceiver.report.figure import COLOURS, INK, save_figure, styled

__all__ = [
    'answers_of', 'certificates', 'draw_certificates', 'saving', 'splits'
]

TRIALS = 1000
# Halves that thresholds are searched on in 1,000 random splits: a path of
# thresholds takes seconds, a certificate milliseconds.
PATHS = 10
MAX_RISKS = (.01, .02, .05)
CERTAINTY = .9


def answers_of(exits: ExitLogits) -> Tensor:
    """Class (num_exits, N) that each exit says."""
    return torch.stack([logits.argmax(-1) for logits in exits.logits])


def certificates(exits: ExitLogits, tests: ExitLogits) -> List[Any]:
    """How often a certificate does not hold.

    Thresholds are searched on the first of the validation images; what
    certifies is drawn from all others and the test images, with replacement,
    so that the risk on all images to come is known.
    """
    both = ExitLogits.join([exits, tests])
    solve = torch.arange(len(exits.labels) // 2)
    rest = torch.arange(len(solve), len(both.labels))
    generator, rows = torch.Generator().manual_seed(0), []
    for risk in risk_control.CLASS_RISKS:
        outcomes = both.outcomes()
        answers = answers_of(both)
        known = _judged_by(outcomes, answers, risk).select(solve)
        path = risk_control.safest_first(known, risk, answers[:, solve],
                                         both.labels[solve])
        # Only what is certain begins with these.
        first = risk_control.still_safer(known, path[0])
        path = first + path
        losses = risk_control.early_exit_losses(outcomes.confidence[:, rest],
                                                answers[:, rest], path, risk,
                                                both.labels[rest])
        truth = losses.mean(1)
        cost = [
            outcomes.select(rest).evaluate(t).cost / outcomes.cost[-1]
            for t in path
        ]
        for max_risk in MAX_RISKS:
            for certainty, start in ((CERTAINTY, 0), (None, len(first))):
                rows.append(
                    dict(
                        risk=risk,
                        max_risk=max_risk,
                        certainty=certainty,
                        **_trials(losses[start:], truth[start:], cost[start:],
                                  max_risk, certainty, risk, generator)))
                print(rows[-1], flush=True)
    return rows


def _trials(losses: Tensor, truth: Tensor, cost: List[float], max_risk: float,
            certainty: Optional[float], risk: str,
            generator: torch.Generator) -> Dict[str, Any]:
    """Certify many times."""
    risks, costs = [], []
    for _ in range(TRIALS):
        drawn = torch.randint(
            losses.shape[1], (losses.shape[1] // 2, ), generator=generator)
        try:
            index = risk_control.certify(losses[:, drawn], max_risk, certainty,
                                         risk).index
        except risk_control.NotCertifiedError:
            continue
        risks.append(float(truth[index]))
        costs.append(cost[index])
    return dict(
        images=losses.shape[1] // 2,
        trials=TRIALS,
        certified=len(risks),
        exceeded=sum(found > max_risk for found in risks) / TRIALS,
        mean_risk=float(np.mean(risks)) if risks else None,
        cost=float(np.mean(costs)) if costs else None)


def _judged_by(outcomes: ExitOutcomes, answers: Tensor,
               risk: str) -> ExitOutcomes:
    """What thresholds are searched for: answers that are right, or those of
    the last exit."""
    if risk != 'disagreement':
        return outcomes
    return ExitOutcomes(outcomes.confidence, answers == answers[-1],
                        outcomes.cost)


def splits(exits: ExitLogits, tests: ExitLogits) -> List[Any]:
    """Random splits of all images into as many held-out ones as there are,
    and fresh ones: how often the certified risk is exceeded on the fresh ones.

    The half of the held-out images that thresholds are searched on is drawn
    ``PATHS`` times, the half that certifies for each of these anew.
    """
    both, number = ExitLogits.join([exits, tests]), len(exits.labels) // 2
    answers, outcomes = answers_of(both), both.outcomes()
    generator, rows = torch.Generator().manual_seed(0), []
    for risk in risk_control.CLASS_RISKS:
        found: Dict[float, List[Any]] = {most: [] for most in MAX_RISKS}
        for _ in range(PATHS):
            order = torch.randperm(len(both.labels), generator=generator)
            solve, rest = order[:number], order[number:]
            known = _judged_by(outcomes, answers, risk).select(solve)
            path = risk_control.safest_first(known, risk, answers[:, solve],
                                             both.labels[solve])
            path = risk_control.still_safer(known, path[0]) + path
            losses = risk_control.early_exit_losses(
                outcomes.confidence[:, rest], answers[:, rest], path, risk,
                both.labels[rest])
            for _ in range(TRIALS // PATHS):
                order = torch.randperm(len(rest), generator=generator)
                certifies, fresh = order[:number], order[number:]
                for most in MAX_RISKS:
                    try:
                        index = risk_control.certify(losses[:,
                                                            certifies], most,
                                                     CERTAINTY, risk).index
                    except risk_control.NotCertifiedError:
                        continue
                    cost = outcomes.select(rest[fresh]).evaluate(
                        path[index]).cost / outcomes.cost[-1]
                    found[most].append((float(losses[index,
                                                     fresh].mean()), cost))
        for most, pairs in found.items():
            risks, costs = np.array(pairs or [(np.nan, np.nan)]).T
            rows.append(
                dict(
                    risk=risk,
                    max_risk=most,
                    certainty=CERTAINTY,
                    held_out=2 * number,
                    fresh=len(both.labels) - 2 * number,
                    splits=TRIALS,
                    certified=len(pairs),
                    exceeded=int((risks > most).sum()) / TRIALS,
                    mean_risk=float(risks.mean()),
                    cost=float(costs.mean())))
            print(rows[-1], flush=True)
    return rows


def saving(exits: ExitLogits,
           tests: ExitLogits,
           max_risk: float = .01) -> List[Any]:
    """What a promise costs: certified thresholds, with certainty and on
    average, beside the cheapest that keep the risk on the held-out images."""
    rows = []
    for risk in risk_control.CLASS_RISKS:
        answers, outcomes = answers_of(exits), exits.outcomes()
        judged = _judged_by(outcomes, answers, risk)
        points = dict(
            uncertified=ThresholdSearch(judged).for_utility(
                judged.static()[-1].utility - max_risk))
        for name, certainty in (('certain', CERTAINTY), ('average', None)):
            try:
                points[name] = risk_control.solve_certified(
                    outcomes, answers, max_risk, certainty, risk,
                    exits.labels)[0]
            except risk_control.NotCertifiedError as error:
                print(f'{risk}, {name}: {error}')
        for name, thresholds in points.items():
            row: Dict[str, Any] = dict(risk=risk, max_risk=max_risk, how=name)
            for part, images in (('held_out', exits), ('test', tests)):
                found = images.outcomes()
                brought = found.evaluate(thresholds)
                losses = risk_control.early_exit_losses(
                    found.confidence, answers_of(images), [thresholds], risk,
                    images.labels)
                row[part] = dict(
                    images=len(images.labels),
                    risk=float(losses.mean()),
                    cost=brought.cost / found.cost[-1],
                    accuracy=brought.utility)
            rows.append(row)
            print(row, flush=True)
    return rows


@styled()
def draw_certificates(rows: List[Any], path: str) -> None:
    """Draw the real risk of certified thresholds beside the promised one."""
    figure = Figure((7.2, 3.8), layout='constrained')
    axes = figure.add_subplot()
    groups = [(risk, certainty) for risk in risk_control.CLASS_RISKS
              for certainty in (CERTAINTY, None)]
    for number, (risk, certainty) in enumerate(groups):
        found = [
            row for row in rows
            if (row['risk'], row['certainty']) == (risk, certainty)
        ]
        sure = 'on average' if certainty is None else f'{certainty:.0%} sure'
        axes.bar([k + .2 * number for k in range(len(found))],
                 [100 * row['mean_risk'] for row in found],
                 .19,
                 color=COLOURS[number],
                 label=f'{risk}, {sure}')
    ends = range(len(MAX_RISKS))
    for k, most in enumerate(MAX_RISKS):
        axes.hlines(100 * most, k - .15, k + .75, INK, 'dashed')
    axes.set_xticks([k + .3 for k in ends],
                    [f'at most {most:.0%}' for most in MAX_RISKS])
    axes.set(
        xlabel='promised (dashed)',
        ylabel='mean risk (%)',
        title=f'Real risk of {TRIALS:,} certificates')
    axes.legend()
    save_figure(figure, path)
