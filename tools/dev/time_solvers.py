# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How long every solver takes on many logits, and how much memory.

    python tools/dev/time_solvers.py --samples 50000 --classes 1000
"""
import argparse
import resource
import time
from typing import Any, Dict

import torch

from mmdynperceiver.calibration.exit_logits import ExitLogits
from mmdynperceiver.calibration.goals import Goal
from mmdynperceiver.calibration.operating_points import solve_points

COSTS = (1., 2., 3., 4.)
BUDGET = Goal(COSTS, budget=2.5)
RISK = Goal(COSTS, max_risk=.05, certainty=.9)
GAP = Goal(COSTS, max_risk=.05, certainty=.9, risk='accuracy-gap')
LEARNED: Dict[str, Any] = dict(ensemble='geometric', criterion='logistic')
CASES: Dict[str, Any] = {
    'search': dict(goal=BUDGET),
    'shares': dict(goal=BUDGET, solver='shares'),
    'temperature': dict(goal=BUDGET, fit=True),
    'exit accuracy': dict(goal=Goal(COSTS, exit_accuracy=.8)),
    'largest risk': dict(goal=RISK),
    'largest accuracy gap': dict(goal=GAP),
    'largest risk, learned': dict(goal=RISK, **LEARNED),
    'geometric ensemble': dict(goal=BUDGET, ensemble='geometric'),
    'learned stopping': dict(goal=BUDGET, criterion='logistic')
}


def make_exits(samples: int, classes: int) -> ExitLogits:
    """Exits that know more and more, some samples harder than others."""
    torch.manual_seed(0)
    labels = torch.randint(classes, (samples, ))
    logits = []
    shared = torch.randn(samples, classes)
    hard = torch.rand(samples)
    for scale in (6., 8., 9., 10.):
        own = .5 * torch.randn(samples, classes) + shared
        own[torch.arange(samples), labels] += scale * hard
        logits.append(own)
    return ExitLogits(tuple(logits), labels, [''] * samples, COSTS)


def main() -> None:
    """Time what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--samples', type=int, default=50000)
    parser.add_argument('--classes', type=int, default=1000)
    parser.add_argument(
        '--only', nargs='+', choices=list(CASES), default=list(CASES))
    args = parser.parse_args()
    exits = make_exits(args.samples, args.classes)
    for name in args.only:
        start, busy = time.perf_counter(), time.process_time()
        point, = solve_points(exits, **CASES[name])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f'{name}: {time.process_time() - busy:.1f} s of a processor, '
            f'{time.perf_counter() - start:.1f} s on the clock, at most '
            f'{peak:.2f} GiB so far; {point.expected["accuracy"]:.4f} right '
            f'at {point.expected["macs"]:.3f}',
            flush=True)


if __name__ == '__main__':
    main()
