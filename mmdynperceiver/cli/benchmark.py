# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What ``tools/benchmark.py`` does: build networks, enter them, measure."""
import argparse
import os
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
import torchvision
from mmengine.config import Config
from torch import Tensor, nn

from ..benchmark import compare as benchmark
from ..benchmark import deployed, entries
from ..benchmark.entries import BenchmarkEntry
from ..benchmark.from_files import compare_streams
from ..benchmark.latency import describe_machine
from ..benchmark.modes import (DEPLOYED_MODES, ONNX_MODES, fitting_modes,
                               format_of, packages_of)
from ..benchmark.peak_memory import peak_memory
from ..core import ExitPolicy
from ..core.accelerate.compiled import MODES, in_mode
from ..core.operating_point import describe_model
from ..errors import InputError, input_errors
from ..hosts.image_stream import (Stream, data_stream, random_stream,
                                  sample_shape)
from ..hosts.model_index import (early_exit_curves, metafile_top1,
                                 torchvision_top1)
from ..io.atomic import write_json
from ..version import __version__
from . import common
from .benchmark_options import FEWEST_RUNS, TORCHVISION, parse_args
from .tables import print_benchmark

__all__ = ['main', 'parse_args']


class Network(NamedTuple):
    """A model of a config; of torchvision's, without a config."""

    name: str
    model: nn.Module
    config: Optional[str] = None

    @property
    def num_exits(self) -> int:
        """1 without exits."""
        return self.model.exit_parts()[1].num_exits if self.config else 1

    def top1(self) -> Sequence[float]:
        """Accuracies that others measured."""
        return metafile_top1(self.config) if self.config else \
            torchvision_top1(self.name[len(TORCHVISION):])


def load_network(args: argparse.Namespace, path: str,
                 checkpoint: Optional[str], config: Config) -> Network:
    """Build the model of a config, with the checkpoint's weights if any."""
    model = common.load_model(config, checkpoint)
    with input_errors():
        model = model.to(args.device)
    return Network(os.path.splitext(os.path.basename(path))[0], model, path)


def load_other(args: argparse.Namespace, path: str, *rest: str) -> Network:
    """Build what --against names."""
    if len(rest) > 1 or (rest and path.startswith(TORCHVISION)):
        raise InputError(f'--against takes a config and perhaps its '
                         f'checkpoint, or one network of torchvision, got '
                         f'{" ".join((path, *rest))}')
    if path.startswith(TORCHVISION):
        with input_errors():
            net = torchvision.models.get_model(path[len(TORCHVISION):])
        return Network(path, net.to(args.device))
    # The options given are for the first config.
    plain = argparse.Namespace(**vars(args))
    plain.config, plain.cfg_options = path, None
    return load_network(args, path, rest[0] if rest else None,
                        common.load_config(plain))


def make_stream(config: Config, args: argparse.Namespace,
                model: nn.Module) -> Stream:
    """The images to measure with, on the device."""
    largest = max(*args.batch_size, args.train_batch_size or 1)
    wanted = args.num_images or 16 * largest
    if wanted < largest:
        raise InputError(f'--num-images is {wanted}, and --batch-size is '
                         f'{largest}')
    if args.images == 'test':
        return data_stream(config, model, wanted, largest)
    # A pass takes the same time on any noise, unless images leave early.
    count = wanted if args.shares or args.thresholds or \
        args.thresholds_file or args.num_images or args.exported else largest
    return random_stream(count, sample_shape(config, model, args.size),
                         args.device)


class Entering:
    """Enters networks in all modes.

    Args:
        args (Namespace): The command line.
        images (Tensor): Those of the stream.
        folder (str): Where exported graphs go.
    """

    def __init__(self, args: argparse.Namespace, images: Tensor,
                 folder: str) -> None:
        self.args, self.images, self.folder = args, images, folder
        self.shape = tuple(images.shape[1:])

    def network(self, index: int, network: Network) -> List[BenchmarkEntry]:
        """Enter one; thresholds on the command line are for the first."""
        folder = os.path.join(self.folder, str(index))
        with input_errors():
            policy = self._policy(network, index == 0)
            for file_format in sorted(set(map(format_of, self.args.runtimes))):
                self._export(network, folder, file_format)
            if network.config is None:
                return self._static(network, folder)
            return [
                entry for mode in self.args.modes
                for entry in self._in_mode(network, mode, folder, policy)
            ]

    def _policy(self, network: Network, first: bool) -> Optional[ExitPolicy]:
        """Where images leave, unless by shares."""
        if network.num_exits == 1:
            return None
        policy = common.choose_policy(self.args, network.model) if first \
            else network.model.policy
        return policy if policy.thresholds is not None else None

    def _export(self, network: Network, folder: str, file_format: str) -> None:
        """Write what the runtimes of a format run."""
        folder = f'{folder}-{file_format}'
        if network.config is None:
            deployed.export_net(network.model, self.shape, folder, file_format)
            return
        deployed.export_model(network.model, self.shape, folder, file_format)
        if self.args.unsplit and network.num_exits > 1:
            deployed.export_one_graph(network.model, self.shape,
                                      f'{folder}-one', file_format)

    def _static(self, network: Network, folder: str) -> List[BenchmarkEntry]:
        """A network of torchvision: eager, and in the runtimes."""
        runtimes = self.args.runtimes
        eager = [entries.static_entry(network.name, network.model)
                 ] if len(runtimes) < len(self.args.modes) else []
        return eager + [
            deployed.graph_entry(network.name, mode,
                                 f'{folder}-{format_of(mode)}',
                                 torch.get_num_threads()) for mode in runtimes
        ]

    def _in_mode(self, network: Network, mode: str, folder: str,
                 policy: Optional[ExitPolicy]) -> List[BenchmarkEntry]:
        """The model of a config in one mode, and perhaps as one graph."""
        name, model, shares = network.name, network.model, self.args.shares
        if mode not in DEPLOYED_MODES:
            model = in_mode(model, mode, self.shape[-2:])
            if shares and network.num_exits > 1:
                policy = entries.policy_for_shares(
                    entries.all_exits_pass(model), self.images, shares,
                    self.args.batch_size[0])
            return [
                entries.early_exit_entry(name, mode, model, self.shape, policy)
            ]
        folder = f'{folder}-{format_of(mode)}'
        staged = self.exported(name, mode, folder, policy)
        if not self.args.unsplit or network.num_exits == 1:
            return [staged]
        one = deployed.graph_entry(f'{name} (one graph)',
                                   mode, f'{folder}-one',
                                   torch.get_num_threads(), staged.macs[-1],
                                   model.exit_parts()[1].num_classes)
        return [staged, one]

    def exported(self,
                 name: str,
                 mode: str,
                 folder: str,
                 policy: Optional[ExitPolicy] = None) -> BenchmarkEntry:
        """An exported network in one runtime."""
        with input_errors():
            runner = deployed.open_exported(folder, mode,
                                            torch.get_num_threads(),
                                            self.shape)
            return deployed.runner_entry(name, mode, runner, policy,
                                         self.images, self.args.shares,
                                         self.args.batch_size[0])


def enter_all(networks: List[Network], args: argparse.Namespace,
              images: Tensor, folder: str) -> List[BenchmarkEntry]:
    """All networks in all modes, and what was exported before."""
    entering = Entering(args, images, folder)
    entered = [
        entry for index, network in enumerate(networks)
        for entry in entering.network(index, network)
    ]
    for path in args.exported:
        name = os.path.basename(os.path.normpath(path))
        entered += [
            entering.exported(name, mode, path)
            for mode in fitting_modes(path, args.runtimes)
        ]
    for path in args.onnx:
        entered += [
            deployed.onnx_entry(path, mode, torch.get_num_threads(),
                                entering.shape) for mode in args.runtimes
            if mode in ONNX_MODES
        ]
    return entered


def find_bases(entered: List[BenchmarkEntry],
               names: Optional[List[str]]) -> List[int]:
    """The entries that ratios refer to."""
    labels = [f'{one.name}:{one.mode}' for one in entered]
    bases = []
    for name in names or labels[:1]:
        found = [
            index for index, one in enumerate(entered)
            if name in (one.name, labels[index])
        ]
        if not found:
            raise InputError(f'--base must be one of {", ".join(labels)}, '
                             f'got {name!r}')
        bases.append(found[0])
    return bases


def training_base(entered: List[BenchmarkEntry], base: int) -> int:
    """The base of a training step: the same network, eager."""
    for index, one in enumerate(entered):
        if one.name == entered[base].name and one.train_step is not None:
            return index
    raise InputError(f'--train-batch-size needs a --base that PyTorch runs, '
                     f'got {entered[base].name}')


def measure(entered: List[BenchmarkEntry], stream: Stream,
            args: argparse.Namespace,
            bases: List[int]) -> List[Dict[str, Any]]:
    """Time everything, in each batch size."""
    rows: List[Dict[str, Any]] = []
    for size in args.batch_size:
        runs = max(FEWEST_RUNS, args.runs // size) if size > 1 else args.runs
        warmup = min(args.warmup, max(1, args.warmup // size))
        found = benchmark.compare(entered, stream.images, size, runs, warmup,
                                  bases, args.clock)
        for row, one in zip(found, entered):
            row.update(runs=runs, warmup=warmup)
            if one.graphs is not None:
                row['graphs'] = vars(one.graphs())
            if one.mode in MODES and (not one.mode.startswith('compiled')
                                      or stream.images.is_cuda):
                with torch.no_grad():
                    row['peak_memory_mib'] = peak_memory(
                        one.passes[-1], stream.images[:size])
        rows.extend(found)
    return rows


def add_top1(rows: List[Dict[str, Any]], entered: List[BenchmarkEntry],
             stream: Stream, published: Dict[str, Sequence[float]]) -> None:
    """Add the accuracies that others measured, or those on the images."""
    for row in rows:
        if row['name'] in published:
            row['top1'] = dict(exits=list(published[row['name']]))
    if stream.labels is not None and not published:
        for one, row in zip(entered, rows):
            if not one.name.startswith(TORCHVISION):
                row['top1'] = benchmark.top1_per_exit(one, *stream)


def run(args: argparse.Namespace, config: Config,
        folder: str) -> Dict[str, Any]:
    """Build everything and measure it; exported graphs go into the folder."""
    first = load_network(args, args.config, args.checkpoint, config)
    networks = [first, *(load_other(args, *given) for given in args.against)]
    stream = make_stream(config, args, first.model)
    curves = early_exit_curves(
        args.curve,
        {one.name: one.num_exits
         for one in networks if one.config})
    entered = enter_all(networks, args, stream.images, folder)
    bases = find_bases(entered, args.base)
    step_base = training_base(entered, bases[0]) if args.train_batch_size \
        else None
    published: Dict[str, Sequence[float]] = {}
    for one in networks if args.published_top1 else ():
        published[one.name] = top1 = one.top1()
        published[f'{one.name} (one graph)'] = top1[-1:]
    rows = measure(entered, stream, args, bases)
    add_top1(rows, entered, stream, published)
    for row in rows:
        if row['name'] in curves and 'top1' in row:
            row['top1']['curve'] = curves[row['name']]
    training = [] if step_base is None else benchmark.compare_training(
        entered,
        stream.images,
        args.train_batch_size,
        max(FEWEST_RUNS, args.runs // args.train_batch_size),
        base=step_base)
    return dict({key: rows[0][key]
                 for key in ('exits', 'batch_size', 'mode')},
                shape=tuple(stream.images.shape[1:]),
                images=args.images,
                clock=args.clock,
                num_images=len(stream.images),
                config=os.path.basename(args.config),
                checkpoint=args.checkpoint
                and os.path.basename(args.checkpoint),
                bases=[f'{entered[k].name}, {entered[k].mode}' for k in bases],
                shares=args.shares,
                model=describe_model(*first.model.exit_parts()),
                machine=describe_machine(stream.images.device,
                                         packages_of(args.runtimes)),
                mmdynperceiver=__version__,
                compared=rows,
                training=training,
                files=compare_streams(args.exported, args.runtimes, args.files,
                                      torch.get_num_threads()))


def main() -> None:
    """Check what is given, then measure."""
    args = parse_args()
    deployed.check_deployed_modes(args.runtimes)
    config = common.load_config(args)
    common.check_writable_file(args.out, ('.json', ))
    common.check_writable_file(args.plot, ('.png', ))
    for path in args.exported:
        fitting_modes(path, args.runtimes)
    with tempfile.TemporaryDirectory() as folder:
        result = run(args, config, folder)
    print_benchmark(result)
    if args.out:
        write_json(args.out, result)
        print(f'wrote {args.out}')
    if args.plot:
        from ..report import plot_accuracy_latency
        plot_accuracy_latency(result['compared'], args.plot)
        print(f'wrote {args.plot}')
