# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Measure how long networks take to each of their exits, side by side."""
import argparse
import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
import torchvision
from mmengine.config import Config
from torch import Tensor, nn

import mmdynperceiver
from mmdynperceiver.core import (MODES, ExitPolicy, OperatingPoint,
                                 describe_model, in_mode)
from mmdynperceiver.core.files import write_json
from mmdynperceiver.engine import benchmark, cli
from mmdynperceiver.engine.checkpoints import load_whole, read_weights
from mmdynperceiver.engine.errors import InputError
from mmdynperceiver.engine.latency import describe_machine
from mmdynperceiver.engine.standalone import (build_data, build_model,
                                              iter_batches, split_config)
from mmdynperceiver.engine.tables import print_benchmark

TORCHVISION = 'torchvision:'
# Rounds of a batch size: fewer of large batches, but not less than this.
FEWEST_RUNS = 3


class Entry(NamedTuple):
    """What the command line names: a model, its files and its policy."""

    name: str
    model: nn.Module
    policy: Optional[ExitPolicy] = None


class Stream(NamedTuple):
    """Normalised images (N, 3, H, W), and their classes if they are real.

    Of a video network, videos (N, M, 3, H, W).
    """

    images: Tensor
    labels: Optional[Tensor] = None


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Measure the time from normalised images to the logits '
        'of each exit, of one network or of several in turn.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file; without one, the weights are random')
    parser.add_argument(
        '--against',
        nargs='+',
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='another config, with or without a checkpoint, or a network of '
        f'torchvision such as {TORCHVISION}resnet50; may be repeated')
    parser.add_argument(
        '--modes',
        nargs='+',
        choices=MODES,
        default=['eager'],
        help='how the networks of configs run: as they are, prepared by '
        'prepare_for_inference, or compiled besides (default: eager)')
    parser.add_argument(
        '--base',
        help='what the ratios refer to, by its name in the table, through '
        'all exits (default: the config, in the first mode)')
    _add_measurement(parser)
    _add_policy(parser)
    parser.add_argument(
        '--out',
        metavar='FILE.json',
        help='write the results to this file; tools/calibrate.py '
        '--latency-table reads those of the config, in the first mode and '
        'batch size')
    parser.add_argument(
        '--plot',
        metavar='FILE.png',
        help='draw accuracy on the measured images against latency in the '
        'first batch size; needs --images test')
    cli.add_common_options(parser)
    args = parser.parse_args()
    _check_numbers(parser, args)
    return args


def _add_measurement(parser: argparse.ArgumentParser) -> None:
    """Options of what is measured, and how often."""
    parser.add_argument(
        '--images',
        choices=['random', 'test'],
        default='random',
        help="random pixels, or the config's test images (default: random)")
    parser.add_argument(
        '--num-images',
        type=int,
        help='how many different images to take in turn (default: 16 '
        'batches, or as many as there are)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help="size of random images (default: that of the config's first "
        'test image)')
    parser.add_argument(
        '--batch-size',
        type=int,
        nargs='+',
        default=[1],
        help='one or several (default: 1)')
    parser.add_argument(
        '--runs',
        type=int,
        default=100,
        help='timed runs of each exit at batch 1 (default: 100); with larger '
        f'batches as many times fewer, but at least {FEWEST_RUNS}')
    parser.add_argument(
        '--warmup',
        type=int,
        default=10,
        help='runs of each exit before, not timed (default: 10); fewer '
        'likewise, but at least 1')
    parser.add_argument(
        '--train-batch-size',
        type=int,
        help='measure a training step too (forward, loss, backward), of so '
        'many images')
    parser.add_argument(
        '--threads', type=int, help="threads (default: PyTorch's choice)")
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='where the networks run (default: a GPU if there is one)')


def _add_policy(parser: argparse.ArgumentParser) -> None:
    """Options of where images leave."""
    policy = parser.add_mutually_exclusive_group()
    policy.add_argument(
        '--thresholds',
        nargs='+',
        type=float,
        help='measure leaving early too: one threshold for each exit of the '
        'config but the last. Others have those of their checkpoint, if any')
    policy.add_argument(
        '--thresholds-file',
        help='JSON file of an operating point, as tools/calibrate.py writes')
    policy.add_argument(
        '--shares',
        nargs='+',
        type=float,
        help='measure leaving early with thresholds at which these shares of '
        'the measured images leave at the exits; they sum to 1')


def _check_numbers(parser: argparse.ArgumentParser,
                   args: argparse.Namespace) -> None:
    """Refuse numbers that cannot be."""
    for name in ('batch_size', 'runs', 'threads', 'num_images',
                 'train_batch_size'):
        values = getattr(args, name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and value < 1:
                parser.error(f'--{name.replace("_", "-")} must be at least '
                             f'1, got {value}')
    if args.warmup < 0:
        parser.error(f'--warmup must be at least 0, got {args.warmup}')
    if args.plot and args.images != 'test':
        parser.error('--plot needs images with classes: --images test')


def load_entry(config: Config, path: str, checkpoint: Optional[str],
               device: str) -> Entry:
    """Build the model of a config, with the checkpoint's weights if any."""
    weights = read_weights(checkpoint) if checkpoint else None
    model = build_model(config)
    if weights is not None and checkpoint is not None:
        load_whole(model, weights, checkpoint)
    name = os.path.splitext(os.path.basename(path))[0]
    with cli.input_errors():
        model = model.to(device)
    policy = model.policy if model.policy.thresholds is not None else None
    return Entry(name, model, policy)


def load_other(given: List[str], args: argparse.Namespace) -> Entry:
    """Build what --against names."""
    path, *rest = given
    if len(rest) > 1 or (rest and path.startswith(TORCHVISION)):
        raise InputError(f'--against takes a config and perhaps its '
                         f'checkpoint, or one network of torchvision, got '
                         f'{" ".join(given)}')
    if path.startswith(TORCHVISION):
        with cli.input_errors():
            net = torchvision.models.get_model(path[len(TORCHVISION):])
        return Entry(path, net.to(args.device))
    # The options given are for the first config.
    plain = argparse.Namespace(**{
        **vars(args), 'config': path,
        'cfg_options': None
    })
    return load_entry(
        cli.load_config(plain), path, rest[0] if rest else None, args.device)


def make_stream(config: Config, args: argparse.Namespace,
                model: nn.Module) -> Stream:
    """The images to measure with, on the device."""
    largest = max(*args.batch_size, args.train_batch_size or 1)
    wanted = args.num_images or 16 * largest
    if wanted < largest:
        raise InputError(f'--num-images is {wanted}, and --batch-size is '
                         f'{largest}')
    if args.images == 'random' and args.size is not None:
        frames = getattr(model.backbone, 'num_segments', None)
        lead = (3, ) if frames is None else (frames, 3)
        return random_stream(wanted, (*lead, *args.size), args)
    cli.check_data_folders(config, ('test_dataloader', ))
    data = build_data(config, split_config(config, 'test'))
    if args.images == 'random':
        return random_stream(wanted, data.dataset[0]['inputs'].shape, args)
    total = len(data.labels)
    if total < largest:
        raise InputError(f'there are only {total} test images, and '
                         f'--batch-size is {largest}')
    count = min(wanted, total)
    # Spread over the data set, which is often sorted by class.
    few = data.select([i * total // count for i in range(count)])
    with torch.no_grad():
        images = torch.cat([
            model.data_preprocessor(batch)['inputs']
            for batch in iter_batches(few, dict(batch_size=1), 0)
        ])
    return Stream(images, torch.tensor(few.labels, device=images.device))


def random_stream(count: int, shape: Tuple[int, ...],
                  args: argparse.Namespace) -> Stream:
    """Normalised noise, in the shape of one image or one video."""
    # A pass takes the same time on any noise, unless images leave early.
    largest = max(*args.batch_size, args.train_batch_size or 1)
    count = count if args.shares or args.thresholds or \
        args.thresholds_file or args.num_images else largest
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, *shape, generator=generator)
    return Stream(images.to(args.device))


def choose_policy(entry: Entry, args: argparse.Namespace, first: bool,
                  images: Tensor) -> Optional[ExitPolicy]:
    """Where the images of one network leave."""
    parts = entry.model.exit_parts()
    if parts[1].num_exits == 1:
        return None
    with cli.input_errors():
        if args.shares:
            return benchmark.policy_for_shares(entry.model, images,
                                               args.shares)
        if first and args.thresholds:
            return ExitPolicy(parts[1].num_exits, args.thresholds)
        if first and args.thresholds_file:
            return ExitPolicy.from_operating_point(
                OperatingPoint.load(args.thresholds_file, parts[1].num_exits,
                                    describe_model(*parts)))
    return entry.policy


def make_contenders(entries: List[Entry], args: argparse.Namespace,
                    images: Tensor) -> List[benchmark.Contender]:
    """All networks in all modes."""
    shape = tuple(images.shape[1:])
    contenders = []
    for index, entry in enumerate(entries):
        if entry.name.startswith(TORCHVISION):
            contenders.append(
                benchmark.static_contender(entry.name, entry.model))
            continue
        policy = choose_policy(entry, args, index == 0, images)
        for mode in args.modes:
            contenders.append(
                benchmark.early_exit_contender(
                    entry.name, mode, in_mode(entry.model, mode, shape[-2:]),
                    shape, policy))
    return contenders


def find_base(contenders: List[benchmark.Contender],
              name: Optional[str]) -> int:
    """The contender that ratios refer to."""
    names = [contender.name for contender in contenders]
    if name is None:
        return 0
    if name not in names:
        raise InputError(f'--base must be one of {", ".join(set(names))}, '
                         f'got {name!r}')
    return names.index(name)


def measure(contenders: List[benchmark.Contender], stream: Stream,
            args: argparse.Namespace) -> List[Dict[str, Any]]:
    """Time everything, in each batch size."""
    base = find_base(contenders, args.base)
    rows: List[Dict[str, Any]] = []
    for size in args.batch_size:
        runs = max(FEWEST_RUNS, args.runs // size) if size > 1 else args.runs
        warmup = min(args.warmup, max(1, args.warmup // size))
        found = benchmark.compare(contenders, stream.images, size, runs,
                                  warmup, base)
        for row, contender in zip(found, contenders):
            row.update(runs=runs, warmup=warmup)
            if contender.mode != 'compiled' or stream.images.is_cuda:
                with torch.no_grad():
                    row['peak_memory_mib'] = benchmark.peak_memory(
                        contender.passes[-1], stream.images[:size])
        rows.extend(found)
    if stream.labels is not None:
        for contender, row in zip(contenders, rows):
            if not contender.name.startswith(TORCHVISION):
                row['top1'] = benchmark.top1_per_exit(contender, *stream)
    return rows


def main() -> None:
    """Check what is given, then measure."""
    args = parse_args()
    config = cli.load_config(args)
    for path, ending in ((args.out, '.json'), (args.plot, '.png')):
        if path:
            cli.check_writable_file(path, (ending, ))
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    entries = [load_entry(config, args.config, args.checkpoint, args.device)]
    entries += [load_other(given, args) for given in args.against]
    stream = make_stream(config, args, entries[0].model)
    contenders = make_contenders(entries, args, stream.images)
    rows = measure(contenders, stream, args)
    training: List[Dict[str, Any]] = []
    if args.train_batch_size:
        training = benchmark.compare_training(
            contenders,
            stream.images,
            args.train_batch_size,
            max(FEWEST_RUNS, args.runs // args.train_batch_size),
            base=find_base(contenders, args.base))
    first = rows[0]
    checkpoint = args.checkpoint and os.path.basename(args.checkpoint)
    result = dict(
        exits=first['exits'],
        batch_size=first['batch_size'],
        shape=tuple(stream.images.shape[1:]),
        images=args.images,
        num_images=len(stream.images),
        config=os.path.basename(args.config),
        checkpoint=checkpoint,
        base=args.base or entries[0].name,
        shares=args.shares,
        model=describe_model(*entries[0].model.exit_parts()),
        machine=describe_machine(stream.images.device),
        mmdynperceiver=mmdynperceiver.__version__,
        compared=rows,
        training=training)
    print_benchmark(result)
    if args.out:
        write_json(args.out, result)
        print(f'wrote {args.out}')
    if args.plot:
        from mmdynperceiver.report import plot_accuracy_latency
        plot_accuracy_latency(rows, args.plot)
        print(f'wrote {args.plot}')


if __name__ == '__main__':
    cli.run_tool(main)
