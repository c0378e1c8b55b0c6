# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Measure how long networks take to each of their exits, side by side."""
import argparse
import os
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
import torchvision
from mmengine.config import Config
from torch import Tensor, nn

import mmdynperceiver
from mmdynperceiver.benchmark import compare as benchmark
from mmdynperceiver.benchmark import deployed, entries
from mmdynperceiver.benchmark.deployed import DEPLOYED_MODES
from mmdynperceiver.benchmark.entries import BenchmarkEntry
from mmdynperceiver.benchmark.latency import describe_machine
from mmdynperceiver.benchmark.peak_memory import peak_memory
from mmdynperceiver.cli import common
from mmdynperceiver.cli.benchmark_options import (FEWEST_RUNS, TORCHVISION,
                                                  deployed_modes, parse_args)
from mmdynperceiver.cli.tables import print_benchmark
from mmdynperceiver.core import ExitPolicy, OperatingPoint
from mmdynperceiver.core.accelerate.compiled import MODES, in_mode
from mmdynperceiver.core.operating_point import describe_model
from mmdynperceiver.deploy import Manifest
from mmdynperceiver.errors import InputError, input_errors
from mmdynperceiver.hosts.build import build_model
from mmdynperceiver.hosts.image_stream import (Stream, data_stream,
                                               random_stream, sample_shape)
from mmdynperceiver.hosts.model_index import (early_exit_curves, metafile_top1,
                                              torchvision_top1)
from mmdynperceiver.io.atomic import write_json
from mmdynperceiver.io.checkpoints import load_strict, read_weights


class Network(NamedTuple):
    """What the command line names: a model, its files and its policy."""

    name: str
    model: nn.Module
    policy: Optional[ExitPolicy] = None
    config: Optional[str] = None


def load_network(config: Config, path: str, checkpoint: Optional[str],
                 device: str) -> Network:
    """Build the model of a config, with the checkpoint's weights if any."""
    weights = read_weights(checkpoint) if checkpoint else None
    model = build_model(config)
    if weights is not None and checkpoint is not None:
        load_strict(model, weights, checkpoint)
    name = os.path.splitext(os.path.basename(path))[0]
    with input_errors():
        model = model.to(device)
    policy = model.policy if model.policy.thresholds is not None else None
    return Network(name, model, policy, path)


def load_other(given: List[str], args: argparse.Namespace) -> Network:
    """Build what --against names."""
    path, *rest = given
    if len(rest) > 1 or (rest and path.startswith(TORCHVISION)):
        raise InputError(f'--against takes a config and perhaps its '
                         f'checkpoint, or one network of torchvision, got '
                         f'{" ".join(given)}')
    if path.startswith(TORCHVISION):
        with input_errors():
            net = torchvision.models.get_model(path[len(TORCHVISION):])
        return Network(path, net.to(args.device))
    # The options given are for the first config.
    plain = argparse.Namespace(**{
        **vars(args), 'config': path,
        'cfg_options': None
    })
    return load_network(
        common.load_config(plain), path, rest[0] if rest else None,
        args.device)


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


def choose_policy(network: Network, args: argparse.Namespace,
                  first: bool) -> Optional[ExitPolicy]:
    """Where the images of one network leave, unless by shares."""
    parts = network.model.exit_parts()
    if parts[1].num_exits == 1:
        return None
    with input_errors():
        if first and args.thresholds:
            return ExitPolicy(parts[1].num_exits, args.thresholds)
        if first and args.thresholds_file:
            return ExitPolicy.from_operating_point(
                OperatingPoint.load(args.thresholds_file, parts[1].num_exits,
                                    describe_model(*parts)))
    return network.policy


def enter_config(network: Network, args: argparse.Namespace, images: Tensor,
                 first: bool, folder: str) -> List[BenchmarkEntry]:
    """The model of a config, in all modes.

    Args:
        network (Network): The model.
        args (Namespace): The command line.
        images (Tensor): Those of the stream.
        first (bool): Whether the thresholds on the command line are for it.
        folder (str): A new folder, for what is exported.
    """
    shape = tuple(images.shape[1:])
    policy = choose_policy(network, args, first)
    num_exits = network.model.exit_parts()[1].num_exits
    unsplit = args.unsplit and num_exits > 1
    with input_errors():
        if deployed_modes(args):
            deployed.export_model(network.model, shape[1:], folder)
        if unsplit:
            deployed.export_one_graph(network.model, shape[1:],
                                      f'{folder}-one')
    entered = []
    for mode in args.modes:
        if mode not in DEPLOYED_MODES:
            model = in_mode(network.model, mode, shape[-2:])
            if args.shares and num_exits > 1:
                with input_errors():
                    policy = entries.policy_for_shares(
                        entries.all_exits_pass(model), images, args.shares,
                        args.batch_size[0])
            entered.append(
                entries.early_exit_entry(network.name, mode, model, shape,
                                         policy))
            continue
        entered.append(
            enter_folder(network.name, mode, folder, args, images, policy))
        if unsplit:
            entered.append(
                deployed.graph_entry(
                    f'{network.name} (one graph)', mode, f'{folder}-one',
                    torch.get_num_threads(), entered[-1].macs[-1],
                    network.model.exit_parts()[1].num_classes))
    return entered


def enter_folder(name: str,
                 mode: str,
                 folder: str,
                 args: argparse.Namespace,
                 images: Tensor,
                 policy: Optional[ExitPolicy] = None) -> BenchmarkEntry:
    """An exported network in one runtime."""
    with input_errors():
        runner = deployed.open_exported(folder, mode, torch.get_num_threads(),
                                        images.shape[1:])
        return deployed.runner_entry(name, mode, runner, policy, images,
                                     args.shares, args.batch_size[0])


def enter_static(network: Network, args: argparse.Namespace, images: Tensor,
                 folder: str) -> List[BenchmarkEntry]:
    """A network of torchvision: eager, and in the runtimes."""
    runtimes = deployed_modes(args)
    entered = []
    if len(runtimes) < len(args.modes):
        entered.append(entries.static_entry(network.name, network.model))
    if runtimes:
        with input_errors():
            deployed.export_net(network.model, images.shape[2:], folder)
    return entered + [
        deployed.graph_entry(network.name, mode, folder,
                             torch.get_num_threads()) for mode in runtimes
    ]


def enter_all(networks: List[Network], args: argparse.Namespace,
              images: Tensor, folder: str) -> List[BenchmarkEntry]:
    """All networks in all modes; what is exported goes into the folder."""
    runtimes = deployed_modes(args)
    if runtimes and images.ndim != 4:
        raise InputError(f'videos cannot be exported: choose --modes among '
                         f'{", ".join(MODES)}, got {", ".join(runtimes)}')
    entered = []
    for index, network in enumerate(networks):
        own = os.path.join(folder, str(index))
        if network.name.startswith(TORCHVISION):
            entered += enter_static(network, args, images, own)
        else:
            entered += enter_config(network, args, images, index == 0, own)
    for path in args.exported:
        name = os.path.basename(os.path.normpath(path))
        entered += [
            enter_folder(name, mode, path, args, images) for mode in runtimes
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
                                  bases)
        for row, one in zip(found, entered):
            row.update(runs=runs, warmup=warmup)
            if one.mode in MODES and (not one.mode.startswith('compiled')
                                      or stream.images.is_cuda):
                with torch.no_grad():
                    row['peak_memory_mib'] = peak_memory(
                        one.passes[-1], stream.images[:size])
        rows.extend(found)
    if stream.labels is not None and not args.published_top1:
        for one, row in zip(entered, rows):
            if not one.name.startswith(TORCHVISION):
                row['top1'] = benchmark.top1_per_exit(one, *stream)
    return rows


def published_top1(networks: List[Network]) -> Dict[str, Tuple[float, ...]]:
    """Accuracies that others measured, by the names in the table."""
    found = {}
    for network in networks:
        if network.config is None:
            top1: Tuple[float, ...] = torchvision_top1(
                network.name[len(TORCHVISION):])
        else:
            top1 = metafile_top1(network.config)
        found[network.name] = top1
        found[f'{network.name} (one graph)'] = top1[-1:]
    return found


def run(args: argparse.Namespace, config: Config,
        folder: str) -> Dict[str, Any]:
    """Build everything and measure it; exported graphs go into the folder."""
    networks = [
        load_network(config, args.config, args.checkpoint, args.device)
    ]
    networks += [load_other(given, args) for given in args.against]
    stream = make_stream(config, args, networks[0].model)
    curves = early_exit_curves(
        args.curve, {
            network.name: network.model.exit_parts()[1].num_exits
            for network in networks if network.config is not None
        })
    entered = enter_all(networks, args, stream.images, folder)
    bases = find_bases(entered, args.base)
    step_base = training_base(entered, bases[0]) if args.train_batch_size \
        else None
    published = published_top1(networks) if args.published_top1 else {}
    rows = measure(entered, stream, args, bases)
    for row in rows:
        if row['name'] in published:
            row['top1'] = dict(exits=list(published[row['name']]))
        if row['name'] in curves and 'top1' in row:
            row['top1']['curve'] = curves[row['name']]
    training: List[Dict[str, Any]] = []
    if step_base is not None:
        training = benchmark.compare_training(
            entered,
            stream.images,
            args.train_batch_size,
            max(FEWEST_RUNS, args.runs // args.train_batch_size),
            base=step_base)
    first = rows[0]
    return dict(
        exits=first['exits'],
        batch_size=first['batch_size'],
        mode=first['mode'],
        shape=tuple(stream.images.shape[1:]),
        images=args.images,
        num_images=len(stream.images),
        config=os.path.basename(args.config),
        checkpoint=args.checkpoint and os.path.basename(args.checkpoint),
        bases=[f'{entered[k].name}, {entered[k].mode}' for k in bases],
        shares=args.shares,
        model=describe_model(*networks[0].model.exit_parts()),
        machine=describe_machine(
            stream.images.device,
            sorted({DEPLOYED_MODES[mode][0]
                    for mode in deployed_modes(args)})),
        mmdynperceiver=mmdynperceiver.__version__,
        compared=rows,
        training=training)


def main() -> None:
    """Check what is given, then measure."""
    args = parse_args()
    deployed.check_deployed_modes(deployed_modes(args))
    config = common.load_config(args)
    for path, ending in ((args.out, '.json'), (args.plot, '.png')):
        if path:
            common.check_writable_file(path, (ending, ))
    with input_errors():
        for path in args.exported:
            Manifest.load(path)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = run(args, config, folder)
    print_benchmark(result)
    if args.out:
        write_json(args.out, result)
        print(f'wrote {args.out}')
    if args.plot:
        from mmdynperceiver.report import plot_accuracy_latency
        plot_accuracy_latency(result['compared'], args.plot)
        print(f'wrote {args.plot}')


if __name__ == '__main__':
    common.run_tool(main)
