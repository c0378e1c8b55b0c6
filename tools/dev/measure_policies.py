# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What policies keep and bring, on the logits of a trained network.

    python tools/dev/measure_policies.py CONFIG CHECKPOINT --out measured.json

It writes the numbers of docs/policies.md: certificates on fresh images,
learned stopping and ensembles against searched thresholds, alarms of the
drift monitor, and the time that a decision takes.
"""
import argparse
import os
from itertools import islice
from typing import Any, Callable, Dict, Optional

import cv2
import numpy as np
import torch
from measure_certificates import (CERTAINTY, TRIALS, answers_of, certificates,
                                  draw_certificates, saving, splits)
from policy_rivals import decision_times, rivals

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.calibration import risk_control
from mmdynperceiver.calibration.exit_logits import ExitLogits
from mmdynperceiver.calibration.goals import Goal
from mmdynperceiver.calibration.operating_points import solve_points
from mmdynperceiver.cli import common
from mmdynperceiver.core.policy import leave_at
from mmdynperceiver.deploy.drift import DriftMonitor
from mmdynperceiver.hosts.build import build_data, iter_batches, split_config
from mmdynperceiver.hosts.exit_logits import iter_exit_logits
from mmdynperceiver.hosts.held_out import held_out_data
from mmdynperceiver.io.atomic import write_json

PARTS = ('certificates', 'drift', 'microseconds', 'rivals', 'saving', 'splits')
BUDGETS = (.42, .45, .5, .55, .6, .7, .8)
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
    shifts = SHIFTS if 'drift' in args.only else ()
    for name in ('val', 'test', *shifts):
        split = name if name == 'val' else 'test'
        if name == 'val' and args.hold_out:
            data = held_out_data(config, 'train', args.hold_out)
        else:
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
        '--hold-out',
        type=int,
        metavar='N',
        help='for the validation images take the N training images of '
        'tools/calibrate.py --hold-out N')
    parser.add_argument(
        '--budgets',
        type=float,
        nargs='+',
        default=BUDGETS,
        help='of the rivals, shares of the MACs of the last exit')
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
        rivals=lambda: rivals(val, test, args.budgets),
        saving=lambda: saving(val, test),
        splits=lambda: splits(val, test))
    measured = {name: parts[name]() for name in args.only}
    write_json(args.out, measured)
    if args.picture and 'certificates' in measured:
        draw_certificates(measured['certificates'], args.picture)


if __name__ == '__main__':
    main()
