# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Command line of ``mmdynperceiver fit``."""
import argparse
from dataclasses import MISSING, fields
from typing import Optional, Sequence

from ..cli import common
from ..cli.run import TRACEBACK_VARIABLE
from .options import FitOptions
from .run import fit_model

__all__ = ['main', 'parse_args']


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='From a folder of images to a trained, calibrated, '
        'exported and measured model. The same command goes on where it was '
        'stopped.',
        epilog=f'What is not said is chosen, with the reason. Errors of use '
        f'are one line; set {TRACEBACK_VARIABLE}=1 to see where they come '
        f'from.')
    parser.add_argument(
        'data',
        help='folder of class folders, or of train, val and perhaps test '
        'with class folders, or a CSV file of paths, labels and perhaps '
        'splits')
    parser.add_argument(
        '--out', required=True, help='folder for everything that is made')
    parser.set_defaults(
        **{
            field.name: field.default
            for field in fields(FitOptions) if field.default is not MISSING
        })
    _add_goals(parser)
    _add_training(parser)
    common.add_device_option(parser)
    common.add_threads_option(parser)
    common.add_quiet_option(parser)
    return parser.parse_args(argv)


def _add_goals(parser: argparse.ArgumentParser) -> None:
    """What an image may cost, or how good its answer must be."""
    add = parser.add_mutually_exclusive_group().add_argument
    add('--budget-ms',
        help='most milliseconds of an image on average, on this machine: 5, '
        'or a share of the last exit such as 50%%')
    add('--budget-macs', help='most MACs of an image on average: 30M, or 50%%')
    add('--min-accuracy',
        help='least accuracy on held-out images, 0.9 or 90%%, as cheap as '
        'possible (default: about that of the last exit)')
    add('--max-risk',
        help='most that the class may differ from that of the last exit, '
        '0.02 or 2%%, certified for images to come')


def _add_training(parser: argparse.ArgumentParser) -> None:
    """What is chosen, unless it is said."""
    add = parser.add_argument
    add('--minutes',
        type=float,
        help='time for everything (default: 20); the schedule ends in it')
    add('--backbone-weights',
        metavar='FILE',
        help="torchvision's weights of a network, which becomes the feature "
        'branch')
    add('--pretrained',
        metavar='NAME',
        help='start from a saved network: a folder, a repository on the Hub, '
        'or released weights by their name')
    add('--arch', help='feature branch, such as regnety-400mf')
    add('--width', type=float, help='width factor of the feature branch')
    add('--image-size', type=int, help='height and width of the images')
    add('--num-latents', type=int, help='latents of the first stage')
    add('--batch-size', type=int, help='images of a step')
    add('--lr', type=float, help='largest learning rate')
    add('--passes', type=float, help='how often each image is seen, at most')
    add('--no-flip',
        dest='flip',
        action='store_false',
        help='do not mirror training images: left and right matter')
    add('--compare',
        action='store_true',
        help='train the static twin too, in the same time again')
    add('--seed', type=int, help='of splits, weights and order (default: 0)')
    add('--fresh',
        action='store_true',
        help='begin anew in the folder of an earlier fit')


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Fit a model."""
    args = parse_args(argv)
    common.apply_run_options(args)
    fit_model(
        FitOptions(**{
            field.name: getattr(args, field.name)
            for field in fields(FitOptions)
        }))
