# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Turn weights published by the authors into a checkpoint of a config."""
import argparse
import os
import os.path as osp
from pathlib import Path

from mmengine.config import Config

from ..compat.model_hub import config_root
from ..errors import InputError
from ..hosts.convert import (Match, Source, find_config, model_config,
                             read_source, write_verified)
from . import common

CONFIGS = Path(config_root()) / 'configs/imagenet'
ENDINGS = ('.pth', '.pt')


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description='Turn weights published by the authors into a checkpoint '
        'that loads into the matching config, and name that config. Family, '
        'width, latents, classes and ablations follow from the file.')
    parser.add_argument('source', help='published file')
    parser.add_argument('checkpoint', help='file to write (.pth)')
    parser.add_argument(
        '--weights',
        choices=['model', 'model_ema'],
        default='model',
        help='which weights of the file: the trained ones (default), or '
        'their moving average')
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace the checkpoint if it is there')
    return parser


def check_target(source: str, target: str, overwrite: bool) -> None:
    """Refuse a target that cannot or should not be written."""
    common.check_writable_file(target, ENDINGS)
    if osp.exists(target) and osp.exists(source) and \
            osp.samefile(source, target):
        raise InputError(f'the checkpoint would replace the published file '
                         f'{source!r}: give it another name')
    if osp.exists(target) and not overwrite:
        raise InputError(f'there is already a file {target!r}: remove it, or '
                         f'replace it with --overwrite')


def describe(source: Source) -> str:
    """Say in a line what was read."""
    variant = source.variant
    width = '' if variant['width'] == 1 else f', width {variant["width"]:g}'
    without = ''.join(f', without {name}' for name, value in variant.items()
                      if value is False)
    return (f'{variant["arch"]}{width}, {variant["num_latents"]} latents, '
            f'{variant["num_classes"]} classes{without}')


def advice(match: Match, variant: dict) -> str:
    """Say which config the checkpoint is for."""
    if match.path is None:
        text = Config(dict(model=model_config(variant))).pretty_text
        return (f'config: none is this variant; put this into one whose '
                f'_base_ is a config of {CONFIGS.name}/:\n\n{text}')
    text = f'config: {osp.relpath(match.path)}'
    if match.options:
        options = ' '.join(f'{k}={v}' for k, v in match.options.items())
        text += f'\n  with --cfg-options {options}'
    for path in match.others:
        text += f'\n  the same network: {osp.relpath(path)}'
    return text


def convert(args: argparse.Namespace) -> None:
    """Read, find the config, verify and write; what does not fit is not."""
    check_target(args.source, args.checkpoint, args.overwrite)
    source = read_source(args.source, args.weights)
    print(f'read {args.weights} of {args.source}: {describe(source)}')
    match = find_config(str(CONFIGS), source)
    print(advice(match, source.variant))
    difference = write_verified(source, match, args.checkpoint)
    print(f'largest difference of logits from the published network, on two '
          f'random images: {difference:.2g}')
    size = os.path.getsize(args.checkpoint) / 1e6
    print(f'wrote {args.checkpoint} ({size:.1f} MB)')


def main() -> None:
    """Convert; an error of use is one line and the exit status 2."""
    parser = make_parser()
    args = parser.parse_args()
    try:
        convert(args)
    except InputError as error:
        parser.exit(2, f'error: {error}\n')
