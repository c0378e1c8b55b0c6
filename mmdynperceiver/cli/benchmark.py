# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What ``tools/benchmark.py`` does: build networks, enter them, measure."""
import argparse
import os
import tempfile
from typing import Any, Dict, List, Optional, Sequence

import torch
from mmengine.config import Config

from ..benchmark import compare as benchmark
from ..benchmark import deployed
from ..benchmark.entries import BenchmarkEntry
from ..benchmark.from_files import compare_streams
from ..benchmark.latency import describe_machine
from ..benchmark.modes import fitting_modes, packages_of
from ..benchmark.peak_memory import peak_memory
from ..core.accelerate.compiled import MODES
from ..datasets.class_names import check_data_classes
from ..errors import InputError
from ..hosts.build import (LabelledData, build_data, check_data_folders,
                           split_config)
from ..hosts.image_stream import (Stream, data_stream, random_stream,
                                  sample_shape)
from ..hosts.model_index import early_exit_curves
from ..io.atomic import write_json
from ..version import __version__
from . import common
from .benchmark_networks import Network, enter_all, load_network, load_other
from .benchmark_options import FEWEST_RUNS, TORCHVISION, parse_args
from .tables import print_benchmark

__all__ = ['main', 'parse_args']


def check_detectors(args: argparse.Namespace) -> None:
    """Refuse what is for classifiers only."""
    for name in ('unsplit', 'onnx', 'curve', 'plot', 'published_top1',
                 'train_batch_size'):
        if getattr(args, name):
            raise InputError(f'{args.config!r} is of a detector, for which '
                             f'there is no --{name.replace("_", "-")}: leave '
                             f'it out')


def load_networks(args: argparse.Namespace, config: Config) -> List[Network]:
    """The network of the config, and those beside it."""
    first = load_network(args, args.config, args.checkpoint, config)
    if first.detects:
        check_detectors(args)
    return [
        first, *(load_other(args, first, *given) for given in args.against)
    ]


def test_images(config: Config, network: Network) -> LabelledData:
    """The test images of a config; InputError, if they are not there."""
    check_data_folders(config, ('test_dataloader', ))
    if network.detects:
        from ..detection.evaluation import detection_data
        return detection_data(config, 'test')
    return build_data(config, split_config(config, 'test'))


def make_stream(config: Config, args: argparse.Namespace,
                network: Network) -> Stream:
    """The images to measure with, on the device."""
    largest = max(*args.batch_size, args.train_batch_size or 1)
    wanted = args.num_images or 16 * largest
    if wanted < largest:
        raise InputError(f'--num-images is {wanted}, and --batch-size is '
                         f'{largest}')
    if args.images == 'test':
        data = test_images(config, network)
        if network.detects:
            return data_stream(data, network.model, wanted,
                               largest)._replace(labels=None)
        check_data_classes(
            'test images',
            data.dataset,
            network.model.exit_parts()[1].num_classes,
            num_labels=max(data.labels, default=-1) + 1)
        return data_stream(data, network.model, wanted, largest)
    # A pass takes the same time on any noise, unless images leave early.
    count = wanted if args.shares or args.thresholds or \
        args.thresholds_file or args.num_images or args.exported else largest
    if args.size is None:
        shape = sample_shape(test_images(config, network), network.model)
    else:
        frames = getattr(network.model.backbone, 'num_segments', None)
        shape = (*((3, ) if frames is None else (frames, 3)), *args.size)
    return random_stream(count, shape, args.device)


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
    networks = load_networks(args, config)
    first = networks[0]
    stream = make_stream(config, args, first)
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
        top1 = one.top1()
        if top1:
            published[one.name] = top1
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
                model=first.describe(),
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
