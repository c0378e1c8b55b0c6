# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Parts that ask whether a device computes what it should."""
import os
import sys
import tempfile
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ...core import (DynPerceiver, ExitPolicy, LossWeights, capture_segments,
                     exit_losses, graph_statistics, load_official,
                     prepare_for_inference, run_all_exits, run_early_exit)
from ...core.criteria import confidences
from .parts import NotRun, Settings, parameters_are_finite, row

__all__ = [
    'check_distributed', 'check_modes', 'check_parity', 'check_replay',
    'check_training'
]

Rows = List[Dict[str, Any]]

# Largest difference of logits over the largest logit: what was measured on
# CPUs is 2e-6, 3e-3 and 3e-2. TF32 has as many digits as fp16.
TOLERANCES = {'fp32': 1e-4, 'tf32': 1e-2, 'fp16': 1e-2, 'bf16': 8e-2}
DTYPES = {'fp16': torch.float16, 'bf16': torch.bfloat16}


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Compute in fp32 proper, TF32, or under autocast."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = name == 'tf32'
    context: AbstractContextManager = nullcontext()
    if name in DTYPES:
        context = torch.autocast(device.type, DTYPES[name])
    try:
        with context:
            yield
    finally:
        for flag, value in zip(flags, before):
            flag.allow_tf32 = value


def difference(found: Tensor, wanted: Tensor) -> float:
    """Largest difference over the largest number."""
    found, wanted = found.float().cpu(), wanted.float().cpu()
    return float((found - wanted).abs().max() / wanted.abs().max())


@torch.no_grad()
def check_parity(settings: Settings) -> Rows:
    """Logits of the published implementation."""
    if settings.references is None:
        raise NotRun('the reference outputs are in a checkout only')
    sys.path.insert(0, settings.references)
    try:
        reference = import_module('test_core.reference')
    finally:
        sys.path.remove(settings.references)
    rows = []
    names = [name for name in TOLERANCES if settings.cuda or name != 'tf32']
    variants = reference.VARIANTS[:1] if settings.quick else \
        reference.VARIANTS
    images = reference.images().to(settings.device)
    for variant in variants:
        _, weights, wanted = reference.load(variant)
        net = load_official({'model': weights}).to(settings.device)
        for name in names:
            with precision(name, settings.device):
                logits = net(images)
            rows.append(
                row(f'{variant}, {name}', max(map(difference, logits, wanted)),
                    TOLERANCES[name]))
    return rows


def in_modes(net: DynPerceiver,
             settings: Settings) -> Iterator[Tuple[str, DynPerceiver, str]]:
    """A network in each mode: the mode, it, and how exact it is."""
    size = (settings.size, settings.size)
    prepared = prepare_for_inference(net, size)
    yield 'prepared', prepared, 'fp32'
    yield 'graphs', capture_segments(prepared, (1, 2, 4, 8),
                                     settings.make_capture), 'fp32'
    for name, dtype in DTYPES.items():
        low = prepare_for_inference(net, size, dtype)
        yield f'prepared-{name}', low, name
        yield f'graphs-{name}', capture_segments(low, (1, 2, 4, 8),
                                                 settings.make_capture), name


@torch.no_grad()
def check_modes(settings: Settings) -> Rows:
    """The logits of each mode are those of the network."""
    rows = []
    for arch in settings.networks():
        net = settings.build(arch)
        with precision('fp32', settings.device):
            for mode, model, name in in_modes(net, settings):
                worst = 0.
                for number in (1, 3, 8):
                    images = settings.images(number, number)
                    worst = max(worst,
                                *map(difference, model(images), net(images)))
                # Weights that nothing has trained amplify what is rounded.
                limit = TOLERANCES[name] * (1 if name == 'fp32' else 4)
                rows.append(row(f'{arch}, {mode}', worst, limit))
    return rows


@torch.no_grad()
def check_replay(settings: Settings) -> Rows:
    """Really stopping is what replaying the thresholds gives."""
    rows = []
    for arch in settings.networks():
        net = settings.build(arch)
        with precision('fp32', settings.device):
            models = [('eager', net, 'fp32'), *in_modes(net, settings)]
            for mode, model, name in models:
                wrong, batches = 0, 8 if settings.quick else 24
                for seed in range(batches):
                    wrong += _wrong_exits(model, settings, seed,
                                          1e-4 if name == 'fp32' else 2e-2)
                rows.append(
                    row(
                        f'{arch}, {mode}: samples at another exit, of '
                        f'{batches} batches', wrong, 0))
                if mode.startswith('graphs'):
                    missed = sum(graph_statistics(model).misses.values())
                    rows.append(
                        row(f'{arch}, {mode}: batches without', missed, 0))
    return rows


def _wrong_exits(net: DynPerceiver, settings: Settings, seed: int,
                 tolerance: float) -> int:
    """Samples that leave elsewhere than in a replay, and not because a
    confidence is at the threshold."""
    images = settings.images(1 + seed % 8, seed)
    parts = net.exit_parts()
    logits = run_all_exits(*parts, images)
    conf = confidences(logits)
    draw = torch.rand(3, generator=torch.Generator().manual_seed(seed))
    thresholds = [
        float(one.quantile(float(q))) + 2 * tolerance
        for one, q in zip(conf, draw)
    ]
    policy = ExitPolicy(4, thresholds)
    real = run_early_exit(*parts, policy, images).exit_index
    replayed = policy.replay(logits).exit_index
    limits = conf.new_tensor(thresholds)[:, None]
    unsure = ((conf[:3] - limits).abs() < tolerance).any(0)
    return int(((real != replayed) & ~unsure).sum())


def check_training(settings: Settings) -> Rows:
    """Steps on one batch lower the loss, in each precision."""
    rows = []
    for task in ('images', 'videos'):
        for name in ('bf16', 'fp16') if settings.quick else \
                ('fp32', 'bf16', 'fp16'):
            first, last = _train(settings, task, name)
            rows.append(
                row(f'{task}, {name}: last loss of the first', last / first,
                    0.98))
    return rows


def _train(
    settings: Settings,
    task: str,
    name: str,
    wrap: Optional[Callable[[nn.Module], nn.Module]] = None
) -> Tuple[float, float]:
    """Train on a batch; the first and the last loss."""
    net = settings.build(settings.networks()[0]).train()
    group = 4 if task == 'videos' else 1
    model = _Losses(net, group).to(settings.device)
    wrapped = model if wrap is None else wrap(model)
    images = settings.images(8 * group)
    target = torch.arange(8, device=settings.device)
    optimizer = torch.optim.AdamW(
        net.parameters(), 1e-3, fused=settings.cuda or None)
    scaler = torch.amp.GradScaler(
        settings.device.type, enabled=name == 'fp16', init_scale=2.**10)
    losses = []
    for _ in range(3 if settings.quick else 10):
        optimizer.zero_grad()
        with precision(name, settings.device):
            loss = wrapped(images, target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss.detach()))
    if not parameters_are_finite(net):
        raise ArithmeticError(f'{task}, {name}: weights are not finite')
    missing = [n for n, p in net.named_parameters() if p.grad is None]
    if missing:
        raise ArithmeticError(f'{task}, {name}: no gradient of {missing[0]}')
    return losses[0], losses[-1]


class _Losses(nn.Module):
    """The sum of all losses of images or videos."""

    def __init__(self, net: DynPerceiver, group: int) -> None:
        super().__init__()
        self.net = net
        self.group = group

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Of images (B * group, 3, H, W) and classes (B,)."""
        logits = run_all_exits(*self.net.exit_parts(), images, self.group)
        losses = exit_losses(logits, target, F.cross_entropy,
                             LossWeights.paper(0.5, 4))
        return torch.stack([
            value for name, value in losses.items() if name.startswith('loss')
        ]).sum()


def check_distributed(settings: Settings) -> Rows:
    """The data-parallel code, of one process."""
    backend = 'nccl' if settings.cuda else 'gloo'
    if not dist.is_available() or not getattr(dist,
                                              f'is_{backend}_available')():
        raise NotRun(f'torch is built without {backend}')
    if dist.is_initialized():
        raise NotRun('this process takes part in another group')
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(
            backend,
            init_method=f'file://{os.path.join(folder, "meet")}',
            rank=0,
            world_size=1)
        try:
            ids = [settings.device] if settings.cuda else None
            first, last = _train(
                settings, 'images', 'bf16',
                lambda net: nn.parallel.DistributedDataParallel(
                    net, device_ids=ids))
        finally:
            dist.destroy_process_group()
    return [row(f'{backend}: last loss of the first', last / first, 0.98)]
