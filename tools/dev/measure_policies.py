# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What policies keep and bring, on the logits of a trained network.

    python tools/dev/measure_policies.py CONFIG CHECKPOINT --out measured.json

It writes the numbers of docs/policies.md: certificates on fresh images,
learned stopping and ensembles against searched thresholds, alarms of the
drift monitor, and the time that a decision takes.
"""
import argparse
import os
import time
import timeit
from itertools import islice
from typing import Any, Callable, Dict, List, Optional, Tuple

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.calibration import risk_control
from mmdynperceiver.calibration.exit_logits import ExitLogits
from mmdynperceiver.calibration.goals import Goal
from mmdynperceiver.calibration.operating_points import (outcomes_of,
                                                         solve_points)
from mmdynperceiver.calibration.outcomes import ExitOutcomes
from mmdynperceiver.cli import common
from mmdynperceiver.core.policy import leave_at
from mmdynperceiver.deploy.drift import DriftMonitor
from mmdynperceiver.deploy.policy import Policy
from mmdynperceiver.hosts.build import build_data, iter_batches, split_config
from mmdynperceiver.hosts.exit_logits import iter_exit_logits
from mmdynperceiver.io.atomic import write_json
from mmdynperceiver.report.figure import COLOURS, INK, save_figure, styled

PARTS = ('certificates', 'drift', 'microseconds', 'rivals')
TRIALS = 1000
MAX_RISKS = (.01, .02, .05)
CERTAINTY = .9
BUDGETS = (.42, .45, .5, .55, .6, .7, .8)
RIVALS: Dict[str, Dict[str, Any]] = {
    'temperature': dict(fit=True),
    'learned stopping': dict(criterion='logistic'),
    'average': dict(ensemble='average'),
    'geometric': dict(ensemble='geometric'),
    'geometric, learned stopping':
    dict(ensemble='geometric', criterion='logistic'),
    'product': dict(ensemble='product')
}
SHIFTS: Dict[str, Callable[[np.ndarray, np.random.Generator], Any]] = {
    'blur 2': lambda x, rng: cv2.GaussianBlur(x, (0, 0), 2),
    'blur 4': lambda x, rng: cv2.GaussianBlur(x, (0, 0), 4),
    'noise 40': lambda x, rng: x + rng.normal(0, 40, x.shape),
    'noise 100': lambda x, rng: x + rng.normal(0, 100, x.shape),
    'contrast 0.3': lambda x, rng: x.mean() + .3 * (x - x.mean()),
    'contrast 2': lambda x, rng: x.mean() + 2 * (x - x.mean())
}
# Batches of shifted images.
SHIFTED = 8
# Images of a stream at most, and streams of shifted images.
STREAM, SHIFTED_STREAMS = 500, 100


def run_network(args: argparse.Namespace) -> Dict[str, ExitLogits]:
    """Logits of validation and test images, and of test images shifted."""
    if args.logits and os.path.isfile(args.logits):
        return {
            name: ExitLogits(*part)
            for name, part in torch.load(args.logits).items()
        }
    config = common.load_config(args)
    model = common.load_model(config, args.checkpoint)
    found = {}
    for name in ('val', 'test', *SHIFTS):
        split = name if name == 'val' else 'test'
        data = build_data(config, split_config(config, split))
        batches = iter_batches(data, config[f'{split}_dataloader'], 0)
        if name in SHIFTS:
            batches = shifted(batches, name)
        found[name] = ExitLogits.join(list(iter_exit_logits(model, batches)))
        print(f'{name}: {len(found[name].labels)} images', flush=True)
    if args.logits:
        torch.save({k: tuple(v) for k, v in found.items()}, args.logits)
    return found


def shifted(batches: Any, name: str) -> Any:
    """Batches with images (3, H, W) that are no longer like the others."""
    rng = np.random.default_rng(0)
    for batch in islice(batches, SHIFTED):
        images = []
        for image in batch['inputs']:
            pixels = image.permute(1, 2, 0).numpy().astype(np.float32)
            pixels = np.clip(SHIFTS[name](pixels, rng), 0, 255).round()
            images.append(
                torch.from_numpy(pixels.astype(np.uint8)).permute(2, 0, 1))
        yield dict(batch, inputs=images)


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
        known = outcomes.select(solve)
        if risk == 'disagreement':
            known = ExitOutcomes(known.confidence,
                                 (answers == answers[-1])[:,
                                                          solve], known.cost)
        path = risk_control.safest_first(known, risk, answers[:, solve],
                                         both.labels[solve])
        losses = risk_control.early_exit_losses(outcomes.confidence[:, rest],
                                                answers[:, rest], path, risk,
                                                both.labels[rest])
        truth = losses.mean(1)
        cost = [
            outcomes.select(rest).evaluate(t).cost / outcomes.cost[-1]
            for t in path
        ]
        for max_risk in MAX_RISKS:
            for certainty in (CERTAINTY, None):
                rows.append(
                    dict(
                        risk=risk,
                        max_risk=max_risk,
                        certainty=certainty,
                        **_trials(losses, truth, cost, max_risk, certainty,
                                  risk, generator)))
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


def rivals(exits: ExitLogits, tests: ExitLogits) -> List[Any]:
    """Policies on test images, beside searched thresholds, paired."""
    rng, rows = np.random.default_rng(0), []
    draws = rng.integers(len(tests.labels), size=(TRIALS, len(tests.labels)))
    for share in BUDGETS:
        goal = Goal(exits.macs, budget=share * exits.macs[-1])
        base = _right(solve_points(exits, goal)[0], tests)
        row: Dict[str, Any] = dict(
            budget=share, thresholds=dict(_summary(*base)))
        for name, settings in RIVALS.items():
            point = solve_points(exits, goal, **settings)[0]
            right, macs = _right(point, tests)
            gains = (right - base[0])[draws].mean(1)
            row[name] = dict(
                _summary(right, macs),
                gain=float((right - base[0]).mean()),
                interval=np.percentile(gains, [2.5, 97.5]).tolist())
        rows.append(row)
        print(row, flush=True)
    return rows


def _right(point: Any, tests: ExitLogits) -> Tuple[np.ndarray, np.ndarray]:
    """Whether each test image is right, and what it costs."""
    outcomes = outcomes_of(point, tests)
    exits = leave_at(outcomes.confidence, point.thresholds)
    right = outcomes.utility.gather(0, exits[None])[0].double().numpy()
    return right, np.asarray(outcomes.cost)[exits.numpy()]


def _summary(right: np.ndarray, macs: np.ndarray) -> Dict[str, float]:
    return dict(accuracy=float(right.mean()), macs=float(macs.mean()))


def drift(found: Dict[str, ExitLogits]) -> Dict[str, Any]:
    """Alarms on streams of test images, as they are and shifted."""
    goal = Goal(found['val'].macs, max_risk=.02, certainty=CERTAINTY)
    point = solve_points(found['val'], goal)[0]
    certificate = dict(point.certificate, safer=())
    result: Dict[str, Any] = dict(certificate=certificate, images=STREAM)
    for name in ('test', *SHIFTS):
        exits, answers = found[name], answers_of(found[name])
        outcomes = exits.outcomes()
        losses = risk_control.early_exit_losses(
            outcomes.confidence, answers,
            [point.thresholds])[0].numpy().astype(bool)
        brought = outcomes.evaluate(point.thresholds)
        deep = (leave_at(outcomes.confidence,
                         point.thresholds) == len(answers) - 1).numpy()
        streams = TRIALS if name == 'test' else SHIFTED_STREAMS
        alarms = [
            first_alarm(
                DriftMonitor.of_certificate(certificate, seed=seed), losses,
                deep, seed) for seed in range(streams)
        ]
        noticed = [alarm for alarm in alarms if alarm is not None]
        result[name] = dict(
            differ=float(losses.mean()),
            deep=float(deep.mean()),
            accuracy=brought.utility,
            last=outcomes.static()[-1].utility,
            cost=brought.cost / outcomes.cost[-1],
            streams=streams,
            alarmed=len(noticed) / streams,
            after=np.percentile(noticed, [50, 95]).tolist()
            if noticed else None)
        print(name, result[name], flush=True)
    return result


def first_alarm(monitor: DriftMonitor, losses: np.ndarray, deep: np.ndarray,
                seed: int) -> Optional[int]:
    """Images of a stream up to the first alarm; None without."""
    rng = np.random.default_rng(seed)
    for start in range(0, STREAM, 10):
        rows = rng.integers(len(losses), size=10)
        chosen = rows[monitor.choose(10)]
        if monitor.observe(losses[chosen], deep[rows]) is not None:
            return start + 10
    return None


def decision_times(exits: ExitLogits) -> Dict[str, float]:
    """Microseconds of all decisions on one image that runs to the end."""
    logits = [part[:1].numpy() for part in exits.logits]
    times = {}
    for name, settings in {'thresholds': {}, **RIVALS}.items():
        point = solve_points(exits,
                             Goal(exits.macs,
                                  budget=.6 * exits.macs[-1]), **settings)[0]
        policy = Policy(
            len(logits), [2.] * (len(logits) - 1), **point.settings)

        def decide() -> None:
            memory = None
            for index, part in enumerate(logits):
                memory = policy.decide(index, part, memory).memory

        times[name] = 1e5 * min(
            timeit.repeat(
                decide, timer=time.process_time, number=10, repeat=100))
    return times


def main() -> None:
    """Run the network once, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--out', required=True)
    parser.add_argument(
        '--picture', help='draw the certificates into this PNG file')
    parser.add_argument(
        '--logits', help='keep the logits in this file, or take them from it')
    parser.add_argument(
        '--only',
        nargs='+',
        choices=PARTS,
        default=PARTS,
        help='what to measure (default: all)')
    common.add_common_options(parser)
    args = parser.parse_args()
    found = run_network(args)
    val, test = found['val'], found['test']
    parts: Dict[str, Callable[[], Any]] = dict(
        certificates=lambda: certificates(val, test),
        drift=lambda: drift(found),
        microseconds=lambda: decision_times(val),
        rivals=lambda: rivals(val, test))
    measured = {name: parts[name]() for name in args.only}
    write_json(args.out, measured)
    if args.picture and 'certificates' in measured:
        draw_certificates(measured['certificates'], args.picture)


if __name__ == '__main__':
    main()
