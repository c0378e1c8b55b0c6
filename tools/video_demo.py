# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Say what happens in video files, and where each of them left."""
import argparse
import os.path as osp
import warnings
from typing import Any, Dict, List, Sequence

from rich.console import Console
from rich.table import Table

import mmdynperceiver  # noqa: F401  (heals the stack before it is imported)
from mmdynperceiver.core import read_checkpoint
from mmdynperceiver.core.files import write_json
from mmdynperceiver.engine import InputError, cli
from mmdynperceiver.engine.checkpoints import load_whole, read_weights
from mmdynperceiver.engine.class_names import (check_class_names,
                                               checkpoint_classes)
from mmdynperceiver.engine.lists import read_classes


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Classify video files: the best classes, the exit at '
        'which each video left, and what it cost.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('videos', nargs='+', help='video files')
    policy = parser.add_mutually_exclusive_group()
    policy.add_argument(
        '--thresholds',
        nargs='+',
        type=float,
        help='smallest confidence to leave with, one number for each exit '
        'but the last; by default those of the config, else those of the '
        'checkpoint, else none')
    policy.add_argument(
        '--thresholds-file',
        help='JSON file of an operating point, as tools/calibrate.py writes '
        'it')
    policy.add_argument(
        '--exit', type=int, help='the one exit at which all leave, from 0')
    parser.add_argument(
        '--classes',
        help='file with a class name in each line (default: the names that '
        'the checkpoint carries, else numbers)')
    parser.add_argument(
        '--topk', type=int, default=5, help='classes shown (default: 5)')
    parser.add_argument('--device', help='(default: a GPU if there is one)')
    parser.add_argument('--out', help='write the results to this JSON file')
    args = parser.parse_args()
    if args.topk < 1:
        parser.error(f'--topk must be at least 1, got {args.topk}')
    return args


def build_inferencer(args: argparse.Namespace) -> Any:
    """MMAction2's inferencer with the checkpoint and the policy."""
    from mmaction.apis import ActionRecogInferencer
    weights = read_weights(args.checkpoint)
    with cli.input_errors(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        inferencer = ActionRecogInferencer(
            args.config, args.checkpoint, device=args.device)
    model = inferencer.model
    # The host's loading goes on with random values where names do not fit.
    load_whole(model, weights, args.checkpoint)
    if not hasattr(model, 'make_policy'):
        raise InputError(f'the config must be one of an early-exit '
                         f'recognizer, got {type(model).__name__}')
    thresholds = args.thresholds or args.thresholds_file
    if thresholds is not None or args.exit is not None:
        with cli.input_errors():
            model.policy = model.make_policy(thresholds, args.exit)
    return inferencer


def class_names(args: argparse.Namespace, count: int) -> List[str]:
    """Names of all classes; numbers where they are not known."""
    content = read_checkpoint(osp.expanduser(args.checkpoint))
    known = checkpoint_classes(content, count)
    if args.classes is None:
        return known or [str(number) for number in range(count)]
    names = read_classes(args.classes)
    check_class_names(names, count, known, args.classes)
    return names


def describe(path: str, sample: Any, names: Sequence[str],
             topk: int) -> Dict[str, Any]:
    """What is said of one video."""
    scores, order = sample.pred_score.sort(descending=True)
    return dict(
        video=path,
        exit_index=sample.exit_index,
        confidence=sample.exit_confidence,
        macs=sample.macs,
        all_macs=sample.exit_macs[-1],
        classes=[
            dict(name=names[int(k)], label=int(k), score=float(score))
            for score, k in zip(scores[:topk], order[:topk])
        ])


def print_results(results: Sequence[Dict[str, Any]]) -> None:
    """Print a table."""
    table = Table()
    for heading in ('video', 'exit', 'MACs (M)', 'of all', 'classes'):
        table.add_column(heading, justify='left')
    for result in results:
        table.add_row(
            osp.basename(result['video']), str(result['exit_index']),
            f'{result["macs"] / 1e6:,.1f}',
            f'{result["macs"] / result["all_macs"]:.0%}',
            ', '.join(f'{row["name"]} {row["score"]:.1%}'
                      for row in result['classes']))
    Console().print(table)


def main() -> None:
    """Check what is given, then classify one video after the other."""
    args = parse_args()
    if args.out:
        cli.check_writable_file(args.out, ('.json', ))
    from mmdynperceiver.recognition.datasets import video_fault
    for path in args.videos:
        fault = video_fault(path)
        if fault is not None:
            raise InputError(f'cannot read video {path!r}: {fault}')
    inferencer = build_inferencer(args)
    names = class_names(args, inferencer.model.cls_head.num_classes)
    results = []
    for path in args.videos:
        sample, = inferencer(path, return_datasamples=True)['predictions']
        results.append(describe(path, sample, names, args.topk))
    print_results(results)
    if args.out:
        write_json(args.out, results)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    cli.run_tool(main)
