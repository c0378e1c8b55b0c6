# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Measure how long a network takes to each of its exits."""
import argparse
import os
from typing import List, Optional, Tuple

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import mmdynperceiver
from mmdynperceiver.core import describe_model
from mmdynperceiver.core.files import write_json
from mmdynperceiver.engine import cli
from mmdynperceiver.engine.checkpoints import load_whole, read_weights
from mmdynperceiver.engine.errors import InputError
from mmdynperceiver.engine.latency import describe_machine, measure_exits
from mmdynperceiver.engine.standalone import (build_data, build_model,
                                              iter_batches, split_config)

# Real images are read before the measurement; so many batches are enough.
MAX_BATCHES = 16


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Measure the time from normalised images to the logits '
        'of each exit.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file; without one, the weights are random')
    parser.add_argument(
        '--images',
        choices=['random', 'test'],
        default='random',
        help="random pixels, or the config's test images (default: random)")
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help="size of random images (default: that of the config's first "
        'test image)')
    parser.add_argument(
        '--batch-size', type=int, default=1, help='(default: 1)')
    parser.add_argument(
        '--runs',
        type=int,
        default=100,
        help='timed runs of each exit (default: 100)')
    parser.add_argument(
        '--warmup',
        type=int,
        default=10,
        help='runs of each exit before, not timed (default: 10)')
    parser.add_argument(
        '--threads', type=int, help="threads (default: PyTorch's choice)")
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='where the network runs (default: a GPU if there is one)')
    parser.add_argument(
        '--out',
        metavar='FILE.json',
        help='write the table to this file, for tools/calibrate.py '
        '--latency-table')
    cli.add_common_options(parser)
    args = parser.parse_args()
    for name in ('batch_size', 'runs', 'threads'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1, '
                         f'got {value}')
    if args.warmup < 0:
        parser.error(f'--warmup must be at least 0, got {args.warmup}')
    return args


def load_model(config: Config, args: argparse.Namespace) -> nn.Module:
    """Build the model, with the checkpoint's weights if there is one."""
    weights = read_weights(args.checkpoint) if args.checkpoint else None
    model = build_model(config)
    if weights is not None:
        load_whole(model, weights, args.checkpoint)
    with cli.input_errors():
        return model.to(args.device)


def make_images(config: Config, args: argparse.Namespace,
                model: nn.Module) -> List[Tensor]:
    """Batches of normalised images on the device."""
    if args.images == 'random' and args.size is not None:
        frames = getattr(model.backbone, 'num_segments', None)
        lead = (3, ) if frames is None else (frames, 3)
        return [random_images(args, (*lead, *args.size))]
    cli.check_data_folders(config, ('test_dataloader', ))
    data = build_data(config, split_config(config, 'test'))
    if len(data.labels) < args.batch_size:
        raise InputError(f'there are only {len(data.labels)} test images, and '
                         f'--batch-size is {args.batch_size}')
    if args.images == 'random':
        return [random_images(args, data.dataset[0]['inputs'].shape)]
    count = min(len(data.labels) // args.batch_size, MAX_BATCHES)
    few = data.select(range(count * args.batch_size))
    loader = dict(batch_size=args.batch_size)
    with torch.inference_mode():
        return [
            model.data_preprocessor(batch)['inputs']
            for batch in iter_batches(few, loader, 0)
        ]


def random_images(args: argparse.Namespace, shape: Tuple[int, ...]) -> Tensor:
    """Normalised noise, of the shape of one image or one video."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(args.batch_size, *shape, generator=generator)
    return images.to(args.device)


def print_table(result: dict) -> None:
    """Print latency and MACs of each exit."""
    machine = result['machine']
    table = Table(
        title=f'batch {result["batch_size"]}, {result["runs"]} runs, '
        f'{machine["threads"]} threads, {machine["device"]}')
    for heading in ('exit', 'median (ms)', 'p90 (ms)', 'of the last',
                    'MACs (M)'):
        table.add_column(
            heading, justify='left' if heading == 'exit' else 'right')
    last = result['exits'][-1]['median_ms']
    for row in result['exits']:
        table.add_row(
            str(row['exit']), f'{row["median_ms"]:.3f}',
            f'{row["p90_ms"]:.3f}', f'{row["median_ms"] / last:.0%}',
            f'{row["macs"] / 1e6:.2f}')
    Console().print(table)


def checkpoint_name(path: Optional[str]) -> Optional[str]:
    """The name of a file without its folder."""
    return os.path.basename(path) if path else None


def main() -> None:
    """Check what is given, then measure."""
    args = parse_args()
    config = cli.load_config(args)
    if args.out:
        cli.check_writable_file(args.out, ('.json', ))
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    model = load_model(config, args)
    images = make_images(config, args, model)
    shape = tuple(images[0].shape[1:])
    macs = model.macs_per_exit(shape)
    rows = measure_exits(model, images, args.runs, args.warmup)
    result = dict(
        exits=[dict(row, macs=count) for row, count in zip(rows, macs)],
        batch_size=args.batch_size,
        shape=shape,
        images=args.images,
        runs=args.runs,
        warmup=args.warmup,
        config=os.path.basename(args.config),
        checkpoint=checkpoint_name(args.checkpoint),
        model=describe_model(*model.exit_parts()),
        machine=describe_machine(images[0].device),
        mmdynperceiver=mmdynperceiver.__version__)
    print_table(result)
    if args.out:
        write_json(args.out, result)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    cli.run_tool(main)
