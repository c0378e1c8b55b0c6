# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Compare what decides: the loop that really stops, the runner's, the replay.

Random policies decide on random logits, with every criterion and ensemble:

    python tools/dev/compare_policies.py --batches 3000
"""
import argparse
import types
from contextlib import ExitStack
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from mmdynperceiver.core import ExitPolicy
from mmdynperceiver.core.early_exit import (ExitBatch, LoopState,
                                            early_exit_loop, scatter_rows)
from mmdynperceiver.deploy.policy import Policy
from mmdynperceiver.deploy.runner import Outcome, Runner
from mmdynperceiver.exit_settings import CRITERIA, ENSEMBLES, FEATURES, NEVER

__all__ = ['compare', 'random_logits', 'random_settings']

# Rounding may decide on a confidence that is this close to its threshold.
CLOSE = 1e-5


class _Logits(NamedTuple):
    """The state of a network that knows all its logits (B, exits, K)."""

    all_logits: Tensor


class _KnownLogits(Runner):
    """A runner whose segments know their logits."""

    def __init__(self, num_exits: int, num_classes: int) -> None:
        self.manifest: Any = types.SimpleNamespace(
            num_exits=num_exits, classes=range(num_classes))

    def step(self, index: int, tensors: Dict[str, np.ndarray],
             held: ExitStack) -> np.ndarray:
        """The logits of those under way."""
        return tensors['images'][:, index]

    def all_at_once(self, batch: np.ndarray,
                    held: ExitStack) -> List[np.ndarray]:
        """Those of all exits."""
        return list(batch.swapaxes(0, 1))


def random_logits(rng: np.random.Generator, num_exits: int, classes: int,
                  batch: int) -> np.ndarray:
    """Logits (B, exits, K) that agree now and then, some of them sure."""
    common = rng.standard_normal((batch, 1, classes))
    own = rng.standard_normal((batch, num_exits, classes))
    return ((common + own) * rng.uniform(.1, 4,
                                         (batch, 1, 1))).astype(np.float32)


def random_settings(rng: np.random.Generator, criterion: str,
                    ensemble: Optional[str], num_exits: int) -> Dict[str, Any]:
    """Settings of a policy."""
    settings: Dict[str, Any] = dict(
        thresholds=rng.choice([0, NEVER, *rng.random(20)], num_exits - 1),
        criterion=criterion)
    if criterion != 'logistic' and rng.random() < .5:
        settings['temperature'] = rng.uniform(.3, 3, num_exits)
    if criterion == 'logistic':
        settings['stopping'] = rng.standard_normal(
            (num_exits - 1, len(FEATURES) + 1))
    if ensemble is not None:
        settings['ensemble'] = dict(
            kind=ensemble,
            weights=[rng.uniform(.1, 1, k + 1) for k in range(num_exits)])
    return settings


def really_stop(policy: ExitPolicy, logits: Tensor) -> Tuple[Tensor, ...]:
    """Logits, exit and confidence, by the loop of the core."""
    kept: Optional[Tensor] = None

    def on_exit(arrived: ExitBatch) -> None:
        nonlocal kept
        kept = scatter_rows(kept, arrived.rows, arrived.logits, len(logits))

    exits, conf = early_exit_loop(
        policy, LoopState(_Logits(logits)), lambda index, carried:
        (carried, carried.state.all_logits[:, index].clone()), on_exit)
    assert kept is not None
    return kept, exits, conf


def run_deployed(policy: Policy, logits: np.ndarray) -> Outcome:
    """The same, by the loop of the runner."""
    batch, num_exits, classes = logits.shape
    out = Outcome(
        np.empty((batch, classes), np.float32), np.empty(batch, np.int64),
        np.empty(batch, np.float32), np.empty(batch))
    with ExitStack() as held:
        _KnownLogits(num_exits, classes)._run(logits, policy, held, out)
    return out


def compare(batches: int, seed: int = 0) -> Dict[str, int]:
    """Compare over random batches; every criterion and ensemble in turn.

    Returns:
        dict: Numbers of ``samples``, of those that left early, and of those
        that are left out, being too close to a threshold.

    Raises:
        AssertionError: If something differs.
    """
    rng = np.random.default_rng(seed)
    kinds = [(criterion, ensemble) for criterion in (*CRITERIA, 'logistic')
             for ensemble in (None, *ENSEMBLES)]
    count = dict(samples=0, early=0, close=0)
    for number in range(batches):
        num_exits, classes, batch = (
            int(rng.integers(*ends)) for ends in ((2, 6), (2, 13), (1, 40)))
        logits = random_logits(rng, num_exits, classes, batch)
        settings = random_settings(rng, *kinds[number % len(kinds)], num_exits)
        core = ExitPolicy(num_exits, **settings)
        tensor = torch.from_numpy(logits)
        replayed = core.replay(tensor.unbind(1))
        stopped = really_stop(core, tensor)
        deployed = run_deployed(Policy(num_exits, **settings), logits)
        for one, other in zip(stopped, replayed):
            assert torch.equal(one, other), settings
        clear = _clear(core, tensor)
        for one, other in zip(deployed, replayed):
            np.testing.assert_allclose(
                one[clear],
                other.numpy()[clear],
                rtol=1e-5,
                atol=1e-5,
                err_msg=str(settings))
        count['samples'] += batch
        count['early'] += int((replayed.exit_index < num_exits - 1).sum())
        count['close'] += int((~clear).sum())
    return count


def _clear(policy: ExitPolicy, logits: Tensor) -> np.ndarray:
    """Samples (B,) on which rounding does not decide."""
    thresholds = policy.thresholds
    assert thresholds is not None
    memory, clear = None, np.ones(len(logits), bool)
    for index, threshold in enumerate(thresholds):
        conf, _, memory = policy.decide(index, logits[:, index], memory)
        clear &= np.abs(conf.numpy() - threshold) > CLOSE
    return clear


def main() -> None:
    """Compare as many batches as asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--batches', type=int, default=3000)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    found = compare(args.batches, args.seed)
    print(f'{args.batches:,} batches, {found["samples"]:,} samples, '
          f'{found["early"]:,} of them early: all equal, but '
          f'{found["close"]} within {CLOSE:g} of a threshold were left out')


if __name__ == '__main__':
    main()
