# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Parts that ask how fast a device runs the networks in each mode."""
import glob
import os
import tempfile
from importlib.util import find_spec
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from ...core import (DynPerceiver, ExitPolicy, capture_segments,
                     compile_segments, prepare_for_inference, run_all_exits)
from ..compare import compare
from ..entries import (BenchmarkEntry, all_exits_pass, early_exit_entry,
                       policy_for_shares)
from ..latency import summary, time_in_turn
from ..peak_memory import peak_memory
from .correctness import difference
from .parts import SHARES, NotRun, Settings, row

__all__ = [
    'measure_batch', 'measure_compiled', 'measure_onnxruntime', 'measure_step'
]

Rows = List[Dict[str, Any]]
Calls = Callable[[Tensor], Sequence[Tensor]]

# What leaving early may take of the ideal.
OF_IDEAL = {1: 1.05, 8: 1.10, 32: 1.10, 128: 1.05}
ONE_GRAPH, OTHERS = 'one graph', ('regnet_y_800mf', 'regnet_y_1_6gf',
                                  'regnet_y_3_2gf')


class OneGraph:
    """A function of images as one captured graph, for one batch size."""

    def __init__(self, function: Calls, settings: Settings, images: Tensor,
                 dtype: torch.dtype) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self.images = images.to(
                dtype, memory_format=torch.channels_last, copy=True)
            self.function = function
            self.outputs: Sequence[Tensor] = ()
            capture = settings.make_capture(settings.device)
            self.replay = capture.record(self._work)

    def _work(self) -> None:
        self.outputs = self.function(self.images)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        """Run it again on other images of the same size."""
        self.images.copy_(images)
        self.replay()
        return [output.clone() for output in self.outputs]


def _in_modes(arch: str, settings: Settings,
              batch: int) -> List[Tuple[str, DynPerceiver]]:
    """Our network in each mode that starts soon."""
    net = settings.build(arch)
    size = (settings.size, settings.size)
    found = [('eager', net)]
    buckets = [2**k for k in range(batch.bit_length())]
    for suffix, dtype in (('', None), ('-bf16', torch.bfloat16)):
        prepared = prepare_for_inference(net, size, dtype)
        graphs = capture_segments(prepared, buckets, settings.make_capture)
        found += [(f'prepared{suffix}', prepared), (f'graphs{suffix}', graphs)]
    return found


def _entries(arch: str, settings: Settings, images: Tensor,
             batch: int) -> List[BenchmarkEntry]:
    """Everything that is timed in turn."""
    shape = tuple(images.shape[1:])
    entries = []
    for mode, net in _in_modes(arch, settings, batch):
        policy = policy_for_shares(all_exits_pass(net), images, SHARES, batch)
        entries.append(early_exit_entry(arch, mode, net, shape, policy))
        if mode.startswith('prepared'):
            entries.append(
                _one_graph(arch, mode.replace('prepared', ONE_GRAPH),
                           all_exits_pass(net), settings, images[:batch],
                           images.dtype))
    for name in OTHERS[:1] if settings.quick else OTHERS:
        net = torchvision.models.get_model(name).to(settings.device).eval()
        net = net.to(memory_format=torch.channels_last)
        for suffix, dtype in (('', torch.float32), ('-bf16', torch.bfloat16)):
            net = net.to(dtype)
            # A function of its own each time: the net changes its precision.
            copy_of = _copied(net)
            entries.append(
                _one_graph(name, ONE_GRAPH + suffix, copy_of, settings,
                           images[:batch], dtype))
            if not suffix:
                entries.append(
                    BenchmarkEntry(name, 'eager', [copy_of], copy_of))
    return entries


def _copied(net: nn.Module) -> Calls:
    """A network of torchvision as it is now."""
    from ...core.accelerate.copies import copy_model
    same = copy_model(net).requires_grad_(False)
    return lambda images: (same(
        images.contiguous(memory_format=torch.channels_last)), )


def _one_graph(name: str, mode: str, function: Calls, settings: Settings,
               images: Tensor, dtype: torch.dtype) -> BenchmarkEntry:
    """Enter a function as one captured graph."""
    graph = OneGraph(function, settings, images, dtype)
    return BenchmarkEntry(name, mode, [graph], graph)


def measure_batch(settings: Settings, arch: str, batch: int) -> Rows:
    """Times of one network in each mode, beside others, in one batch size."""
    images = settings.images(max(batch, 4 if settings.quick else 64))
    entries = _entries(arch, settings, images, batch)
    labels = [f'{one.name}, {one.mode}' for one in entries]
    bases = [0, labels.index(f'{arch}, {ONE_GRAPH}')]
    if f'{OTHERS[2]}, {ONE_GRAPH}-bf16' in labels:
        bases.append(labels.index(f'{OTHERS[2]}, {ONE_GRAPH}-bf16'))
    runs = 2 if settings.quick else max(6, 24 // batch)
    found = compare(entries, images, batch, runs, 1, bases)
    rows: Rows = []
    for label, one in zip(labels, found):
        exits = [each['median_ms'] for each in one['exits']]
        dynamic = one.get('dynamic', {})
        rows.append(
            row(f'{label}: ms to the last exit',
                exits[-1],
                exits=exits,
                dynamic_ms=dynamic.get('mean_ms'),
                of_bases=one['exits'][-1]['of_bases'],
                bases=[labels[base] for base in bases],
                label=label,
                batch=batch))
        if label.startswith(f'{arch}, graphs'):
            rows.append(
                row(f'{label}: leaving early of the ideal',
                    dynamic['of_ideal'], OF_IDEAL.get(batch), True))
    return rows + _targets(arch, batch, dict(zip(labels, found)), len(bases))


def _targets(arch: str, batch: int, found: Dict[str, Any], bases: int) -> Rows:
    """What was aimed at, from ratios in the same rounds."""
    graphs = found[f'{arch}, graphs']['exits'][-1]['of_bases']
    if batch == 1:
        return [
            row(f'{arch}: graphs of eager', graphs[0], 0.30, True),
            row(f'{arch}: graphs of one graph', graphs[1], 1.05, True)
        ]
    if batch == 128 and bases == 3:
        low = found[f'{arch}, graphs-bf16']['dynamic']['of_bases'][2]
        return [
            row(f'{arch}: leaving early in bf16 of {OTHERS[2]} in bf16', low,
                0.5, True)
        ]
    return []


def measure_compiled(settings: Settings, arch: str, batch: int) -> Rows:
    """Compiled segments, by themselves and inside captured graphs."""
    net = settings.build(arch)
    prepared = prepare_for_inference(net, (settings.size, settings.size))
    backend = 'eager' if settings.quick else 'inductor'
    compiled = compile_segments(prepared, [batch], backend)
    models = [('prepared', prepared), ('compiled', compiled),
              ('graphs',
               capture_segments(prepared, [batch], settings.make_capture)),
              ('compiled, graphs',
               capture_segments(compiled, [batch], settings.make_capture))]
    images = settings.images(batch)
    shape = tuple(images.shape[1:])
    with torch.no_grad():
        wanted = net(images)
        worst = [
            max(map(difference, model(images), wanted)) for _, model in models
        ]
    # TF32 is as PyTorch has it, here as in the measurement.
    rows = [
        row(f'{arch}, {mode}: largest difference', value, 1e-2)
        for (mode, _), value in zip(models, worst)
    ]
    entries = [
        early_exit_entry(arch, mode, model, shape, ExitPolicy(4))
        for mode, model in models
    ]
    found = compare(entries, images, batch, 2 if settings.quick else 16, 1)
    return rows + [
        row(f'{arch}, {one["mode"]}: ms to the last exit',
            one['exits'][-1]['median_ms'],
            of_base=one['exits'][-1]['of_base']) for one in found
    ]


def measure_step(settings: Settings) -> Rows:
    """A training step in bf16: ours, and torchvision's RegNet-Y-800MF."""
    batch = 4 if settings.quick else 128
    images = settings.images(batch)
    arch = settings.networks()[0]
    ours = settings.build(arch)
    other = torchvision.models.regnet_y_800mf().to(settings.device)
    names = [arch, 'torchvision regnet_y_800mf']
    steps = [
        _step(ours, lambda x: run_all_exits(*ours.exit_parts(), x), settings),
        _step(other, lambda x: (other(x), ), settings)
    ]
    times = time_in_turn([[step] for step in steps], [images],
                         2 if settings.quick else 8, 2)
    rows = []
    for name, step, (values, ) in zip(names, steps, times):
        median = summary(values)['median_ms']
        rows.append(
            row(f'{name}: ms of a step of {batch}',
                median,
                images_per_s=1000 * batch / median,
                memory_mib=peak_memory(step, images)))
    rows.append(
        row('our step of the other', rows[0]['value'] / rows[1]['value'], 1.5,
            True))
    return rows


def _step(net: nn.Module, forward: Calls,
          settings: Settings) -> Callable[[Tensor], None]:
    """Forward, losses, backward and optimiser, in bf16, channels last."""
    net.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        net.parameters(), 1e-4, fused=settings.cuda or None)

    def step(images: Tensor) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            optimizer.zero_grad()
            images = images.clone(memory_format=torch.channels_last)
            target = torch.zeros(
                len(images), dtype=torch.long, device=images.device)
            with torch.autocast(settings.device.type, torch.bfloat16):
                losses = [
                    F.cross_entropy(logits, target)
                    for logits in forward(images)
                ]
            torch.autograd.backward(torch.stack(losses).sum())
            optimizer.step()

    return step


def measure_onnxruntime(settings: Settings) -> Rows:
    """The exported network by ONNX Runtime on the device."""
    for package in ('onnxruntime', 'onnx'):
        if find_spec(package) is None:
            raise NotRun(f'{package} is not installed')
    import onnxruntime
    provider = 'CUDAExecutionProvider' if settings.cuda else \
        'CPUExecutionProvider'
    if provider not in onnxruntime.get_available_providers():
        raise NotRun(f'onnxruntime {onnxruntime.__version__} has no '
                     f'{provider}: install onnxruntime-gpu')
    from ..deployed import export_one_graph
    arch = settings.networks()[0]
    net = settings.build(arch)
    images = settings.images(1)
    with torch.no_grad():
        wanted = torch.cat(net(images), 1)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'exported')
        shape = (3, settings.size, settings.size)
        export_one_graph(net.cpu(), shape, path)
        graph, = glob.glob(os.path.join(path, '*.onnx'))
        session = onnxruntime.InferenceSession(graph, providers=[provider])
    used = session.get_providers()[0]
    if used != provider:
        raise RuntimeError(f'{provider} did not load: {used} took its place')
    run = _bound(session, images, settings)
    error = difference(run(images), wanted)
    times, = time_in_turn([[run]], [images], 4 if settings.quick else 50, 3)
    return [
        row(f'{arch}, {provider}: difference', error, TOLERANCE_ORT),
        row(f'{arch}, {provider}: ms of one image, one graph',
            summary(times[0])['median_ms'])
    ]


# TF32 is on in its CUDA provider.
TOLERANCE_ORT = 1e-2


def _bound(session: Any, images: Tensor,
           settings: Settings) -> Callable[[Tensor], Tensor]:
    """Run a session on the device's own memory."""
    binding = session.io_binding()
    kind, number = settings.device.type, settings.device.index or 0
    name, = (one.name for one in session.get_inputs())
    out, = (one.name for one in session.get_outputs())
    held = images.contiguous().clone()

    def run(batch: Tensor) -> Tensor:
        held.copy_(batch)
        if settings.cuda:
            torch.cuda.current_stream(settings.device).synchronize()
        binding.bind_input(name, kind, number, 'float32', tuple(held.shape),
                           held.data_ptr())
        binding.bind_output(out, kind, number)
        session.run_with_iobinding(binding)
        return torch.from_numpy(binding.copy_outputs_to_cpu()[0])

    return run
