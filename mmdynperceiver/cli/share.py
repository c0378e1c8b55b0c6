# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Save a checkpoint as a folder without code, to load anywhere and share."""
import argparse
import os
from typing import Any, Dict, List, Mapping

import torch

from ..core import OperatingPoint
from ..io.atomic import check_new_folder
from ..io.model_folder import WEIGHTS, read_config
from . import common
from .folder_options import add_folder_options, describe_source, load_source


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Save a checkpoint as a folder: weights as safetensors, '
        'config.json and a card. mmdynperceiver.hub.from_pretrained loads it, '
        'mmdynperceiver predict classifies images with it.')
    add_folder_options(parser)
    parser.add_argument(
        '--about',
        nargs='+',
        default=[],
        metavar='KEY=TEXT',
        help='what else the card says of where the weights are from, such as '
        '"trained on=10,000 photos of pets"')
    parser.add_argument(
        '--push',
        metavar='OWNER/NAME',
        help='push the folder to this repository on the Hub, too')
    common.add_common_options(parser)
    args = parser.parse_args()
    for pair in args.about:
        if not pair.partition('=')[0] or '=' not in pair:
            parser.error(f'--about takes KEY=TEXT, got {pair!r}')
    return args


def provenance(args: argparse.Namespace,
               content: Mapping[str, Any]) -> Dict[str, Any]:
    """Where the weights are from."""
    meta = content.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    found = describe_source(args)
    for key in ('epoch', 'iter', 'seed', 'time'):
        if isinstance(meta.get(key), (int, str)):
            found[key] = meta[key]
    made_from = meta.get('made_from')
    if isinstance(made_from, Mapping):
        found['made from'] = f'{made_from.get("file")} (SHA-256 ' \
                             f'{made_from.get("sha256")})'
    found['torch'] = str(torch.__version__)
    found.update(tuple(pair.split('=', 1)) for pair in args.about)
    return found


def read_points(path: str) -> List[OperatingPoint]:
    """All operating points of a file, which may be followed by a number."""
    if not os.path.isfile(path):
        path = path.rpartition(':')[0]
    return OperatingPoint.load_all(path)


def main() -> None:
    """Check what is given, then save."""
    args = parse_args()
    config = common.load_config(args)
    with common.input_errors():
        from ..hub.from_checkpoint import save_checkpoint
        from ..hub.load import push_folder
        check_new_folder(args.out)
    model, policy, classes, content = load_source(args, config)
    model.policy = policy
    with common.input_errors():
        points = read_points(args.thresholds_file) \
            if args.thresholds_file else []
        save_checkpoint(args.out, model, config, classes, points,
                        provenance(args, content), args.size)
    size = os.path.getsize(os.path.join(args.out, WEIGHTS)) / 1e6
    print(f'wrote {args.out} ({size:.1f} MB, '
          f'{read_config(args.out)["task"]})')
    if policy.thresholds is None:
        print('without thresholds every input runs to the last exit; '
              'mmdynperceiver calibrate solves some')
    if args.push:
        with common.input_errors():
            address = push_folder(args.out, args.push)
        print(f'pushed to {address}')
