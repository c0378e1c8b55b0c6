# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Command line of ``tools/benchmark.py``."""
import argparse

import torch

from ..benchmark.latency import CLOCKS
from ..benchmark.modes import DEPLOYED_MODES, ONNX_MODES
from ..core.accelerate.compiled import MODES
from . import common

__all__ = ['FEWEST_RUNS', 'TORCHVISION', 'parse_args']

TORCHVISION = 'torchvision:'
# Rounds of a batch size: fewer of large batches, but not less than this.
FEWEST_RUNS = 3


def parse_args() -> argparse.Namespace:
    """Read the command line; ``runtimes`` are those among the modes."""
    parser = argparse.ArgumentParser(
        description='Measure the time from normalised images to the logits '
        'of each exit, of one network or of several in turn.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file; without one, the weights are random')
    for add in (_add_networks, _add_images, _add_measurement, _add_policy,
                _add_output, common.add_common_options):
        add(parser)
    args = parser.parse_args()
    args.runtimes = [mode for mode in args.modes if mode in DEPLOYED_MODES]
    _check(parser, args)
    return args


def _add_networks(parser: argparse.ArgumentParser) -> None:
    """Options of what is compared, and how it runs."""
    parser.add_argument(
        '--against',
        nargs='+',
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='another config, with or without a checkpoint, a network of '
        f'torchvision such as {TORCHVISION}resnet50, or what a function '
        'returns, as FILE.py:NAME; may be repeated')
    parser.add_argument(
        '--modes',
        nargs='+',
        choices=[*MODES, *DEPLOYED_MODES],
        default=['eager'],
        help='how the networks run: as they are, prepared by '
        'prepare_for_inference, compiled or captured as CUDA graphs besides '
        '(these three only networks of configs), or exported, in a runtime '
        '(default: eager)')
    parser.add_argument(
        '--unsplit',
        action='store_true',
        help='enter networks with several exits once more in the runtimes, '
        'as one graph that always runs all exits')
    parser.add_argument(
        '--exported',
        action='append',
        default=[],
        metavar='FOLDER',
        help='enter what tools/export.py wrote (in int8, for instance), in '
        'the runtimes among --modes that run its graphs; may be repeated')
    parser.add_argument(
        '--onnx',
        action='append',
        default=[],
        metavar='FILE.onnx',
        help='enter a graph that others exported, in the runtimes among '
        '--modes that run ONNX: one input, of images; the last output is '
        'taken for the logits; may be repeated')
    parser.add_argument(
        '--base',
        nargs='+',
        metavar='NAME[:MODE]',
        help='what the ratios refer to, through all exits, by its name in '
        'the table, and its mode if it runs in several; each base gets a '
        'column (default: the config, in the first mode)')


def _add_images(parser: argparse.ArgumentParser) -> None:
    """Options of which images are run."""
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
        '--files',
        nargs='+',
        default=[],
        metavar='IMAGES',
        help='image files, or folders with images: measure images per second '
        'from these, decoding included, of the folders of --exported, with '
        'all threads for one image and with as many streams')


def _add_measurement(parser: argparse.ArgumentParser) -> None:
    """Options of how it is measured, and how often."""
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
        '--clock',
        choices=list(CLOCKS),
        default='wall',
        help='wall: the time that passes; cpu: the time that this process has '
        'a core, for one thread on a machine that others keep busy (default: '
        'wall)')
    parser.add_argument(
        '--train-batch-size',
        type=int,
        help='measure a training step too (forward, loss, backward), of so '
        'many images')
    parser.add_argument(
        '--device',
        help='where the networks run (default: a GPU if there is one and '
        'nothing is to run in a runtime, for these run on the CPU)')


def _add_output(parser: argparse.ArgumentParser) -> None:
    """Options of where results go."""
    parser.add_argument(
        '--out',
        metavar='FILE.json',
        help='write the results to this file; tools/calibrate.py '
        '--latency-table reads those of the config, in the first mode and '
        'batch size')
    parser.add_argument(
        '--plot',
        metavar='FILE.png',
        help='draw top-1 accuracy against latency in the first batch size; '
        'needs --images test or --published-top1')
    parser.add_argument(
        '--published-top1',
        action='store_true',
        help='do not measure accuracies: take those in the metafiles beside '
        "the configs, and those of torchvision's first weights")
    parser.add_argument(
        '--curve',
        nargs=2,
        action='append',
        default=[],
        metavar=('NAME', 'CURVE.csv'),
        help='draw leaving early with the network of this name, in the '
        'table, by the curve.csv of its report (tools/calibrate.py '
        '--report), or by a file of the columns name, macs and top1, whose '
        'latencies are estimated from its MACs')


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


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse what cannot be, or has no effect; choose a device."""
    common.check_positive(parser, args, 'batch_size', 'runs', 'num_images',
                          'size', 'train_batch_size')
    if args.warmup < 0:
        parser.error(f'--warmup must be at least 0, got {args.warmup}')
    if args.plot and args.images != 'test' and not args.published_top1:
        parser.error('--plot needs images with classes, --images test, or '
                     '--published-top1')
    if args.curve and not args.plot:
        parser.error('--curve is for a picture: add --plot')
    for name, modes in (('exported', DEPLOYED_MODES), ('onnx', ONNX_MODES),
                        ('unsplit', DEPLOYED_MODES)):
        if getattr(args, name) and not set(modes) & set(args.modes):
            parser.error(f'--{name} needs one of {", ".join(modes)} among '
                         f'--modes')
    if args.files and not args.exported:
        parser.error('--files is for networks with a preprocessing of their '
                     'own: add --exported FOLDER')
    if args.train_batch_size and 'eager' not in args.modes:
        parser.error('--train-batch-size needs eager among --modes')
    if args.device is None:
        gpu = torch.cuda.is_available() and not args.runtimes
        args.device = 'cuda' if gpu else 'cpu'
    if args.runtimes and args.device != 'cpu':
        parser.error(f'--modes {args.runtimes[0]} runs on the CPU: --device '
                     f'cpu, got {args.device}')
    threads = args.threads or torch.get_num_threads()
    if args.clock == 'cpu' and (threads > 1 or args.device != 'cpu'):
        parser.error(f'--clock cpu is for one thread on the CPU, got '
                     f'{threads} on {args.device}: add --threads 1 and '
                     f'--device cpu')
