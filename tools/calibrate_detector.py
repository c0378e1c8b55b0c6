# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Solve the thresholds of a detector that stops early, on held-out images.

The thresholds of the least detection loss within a budget of MACs, found on
the validation images of the config, are written as an operating point. With
--report, the test images tell what they are worth: average precision against
mean MACs, beside stopping by chance and always at the same exit.
"""
import argparse
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

import mmcv
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.calibration.goals import Goal, parse_amount
from mmdynperceiver.calibration.held_out import evaluate
from mmdynperceiver.calibration.threshold_search import ThresholdSearch
from mmdynperceiver.cli import common
from mmdynperceiver.cli.calibrate_options import (add_output_options,
                                                  check_output_options)
from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.core.operating_point import describe_model
from mmdynperceiver.datasets.class_names import (check_data_classes,
                                                 checkpoint_classes,
                                                 config_num_classes)
from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts import calibrate
from mmdynperceiver.hosts.build import build_model, check_data_folders
from mmdynperceiver.io.atomic import write_text
from mmdynperceiver.io.checkpoint_file import read_checkpoint
from mmdynperceiver.io.checkpoints import load_strict, read_weights
from mmdynperceiver.io.fingerprints import weights_fingerprint
from mmdynperceiver.report import replacing_report
from mmdynperceiver.report.curve import Curve, plot_accuracy_macs
from mmdynperceiver.report.pictures import plot_shares
from mmdynperceiver.report.sweep import (SweepRow, rows_to_csv, select,
                                         sweep_budgets, whole_curve)

CRITERION = 'learned'
NUM_BUDGETS = 10
# Stopping by chance depends on the draw: the mean of so many.
DRAWS = 2
IN_GALLERY = 12


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--budget-macs',
        required=True,
        help='most MACs of an image on average: 1.2G, a plain number, or a '
        'share of the last exit such as 75%%; neck and head count')
    parser.add_argument(
        '--report',
        type=Path,
        metavar='DIR',
        help='evaluate on the test data too; write a table and pictures there')
    add_output_options(parser)
    common.add_common_options(parser)
    return parser.parse_args()


def check_args(args: argparse.Namespace) -> None:
    """Refuse what cannot be read or written, and fill in defaults."""
    if args.launcher != 'none':
        raise InputError('thresholds are solved in one process: leave out '
                         '--launcher')
    parse_amount(args.budget_macs, 1., '--budget-macs')
    check_output_options(args)


def check_splits(config: Config) -> None:
    """Refuse to solve on the images that the network was trained on."""
    held_out, training = (
        _ann_file(config, split) for split in ('val', 'train'))
    if held_out and held_out == training:
        raise InputError(
            f'the held-out images are training images, both are those of '
            f'{held_out!r}: give val_dataloader.dataset another ann_file')


def _ann_file(config: Config, split: str) -> str:
    """The annotation file of a part of the data, or nothing."""
    dataset = (config.get(f'{split}_dataloader') or {}).get('dataset') or {}
    name = dataset.get('ann_file') or ''
    path = os.path.join(dataset.get('data_root') or '', name)
    return name and os.path.realpath(os.path.expanduser(path))


def load_model(config: Config, args: argparse.Namespace,
               weights: Mapping[str, Any]) -> nn.Module:
    """Build the model with the checkpoint's weights."""
    model = build_model(config)
    if not hasattr(model, 'keep_losses'):
        raise InputError(f'{args.config!r} is not of a detector that stops '
                         f'early, but of a {type(model).__name__}')
    load_strict(model, weights, args.checkpoint)
    with common.input_errors():
        return model.to(args.device)


def collect(config: Config, model: nn.Module, split: str,
            content: Mapping[str, Any]) -> Tuple[Any, Any]:
    """What all exits find in a part of the data, and that data set."""
    from mmdynperceiver.detection.evaluation import collect_detections
    with common.input_errors():
        loader = Runner.build_dataloader(config[f'{split}_dataloader'])
    num_classes = config_num_classes(config)
    if num_classes is not None:
        known = checkpoint_classes(content, num_classes)
        check_data_classes(f'{split} data', loader.dataset, num_classes, known)
    return collect_detections(model, loader, f'{split} images'), loader.dataset


def solve(args: argparse.Namespace, model: nn.Module, held_out: Any,
          weights: Mapping[str, Any]) -> OperatingPoint:
    """Find the thresholds of the least loss within the budget."""
    macs = held_out.macs
    goal = Goal(macs, budget=parse_amount(args.budget_macs, macs[-1]))
    if goal.note:
        print(goal.note)
    samples = held_out.held_out
    thresholds = ThresholdSearch(samples, macs).for_budget(goal.budget)
    outcome = evaluate(samples, thresholds, macs)
    return OperatingPoint(
        thresholds,
        CRITERION,
        solver='search',
        solved_for=goal.as_dict(),
        expected=dict(
            loss=-outcome.accuracy, shares=outcome.shares, macs=outcome.cost),
        data=dict(split='val', num_images=len(held_out.found)),
        checkpoint=dict(
            file=os.path.basename(args.checkpoint),
            fingerprint=weights_fingerprint(weights)),
        model=describe_model(*model.exit_parts()))


def sweep(held_out: Any, test: Any, truth: Any) -> List[SweepRow]:
    """Each policy at each budget, and each exit, on the test images."""
    from mmdynperceiver.detection.evaluation import random_exits
    search = ThresholdSearch(held_out.held_out, held_out.macs)
    rows = test.static_rows('test', truth)
    budgets = sweep_budgets(held_out.macs, NUM_BUDGETS)[1:-1]
    for budget in track(budgets, 'budgets', transient=True):
        thresholds = search.for_budget(budget)
        stops = test.exit_indices(thresholds)
        rows.append(
            test.row('search', 'test', stops, truth, budget, thresholds))
        draws = [
            test.row('random', 'test', random_exits(stops, seed), truth,
                     budget) for seed in range(DRAWS)
        ]
        mean = sum(row.accuracy for row in draws) / DRAWS
        rows.append(draws[0]._replace(accuracy=mean))
    return rows


def draw(folder: Path, rows: List[SweepRow], chosen: SweepRow,
         title: str) -> None:
    """Draw precision against cost, and where the images stop."""
    series = dict(
        search='stopping early', random='stopping at random, same shares')
    curves = []
    for name, label in series.items():
        found = whole_curve(rows, name, 'test')
        curves.append(
            Curve(
                label, [row.macs for row in found],
                [100 * row.accuracy for row in found],
                style=dict(search='-', random=':')[name]))
    exits = select(rows, 'exit', 'test')
    curves.append(
        Curve('always the same exit', [row.macs for row in exits],
              [100 * row.accuracy for row in exits],
              [row.series for row in exits]))
    plot_accuracy_macs(
        curves,
        folder / 'precision_macs.png',
        title,
        chosen=(chosen.macs, 100 * chosen.accuracy, 'operating point'),
        measure='box AP (COCO)')
    found = whole_curve(rows, 'search', 'test')
    plot_shares([row.macs for row in found], [row.shares for row in found],
                folder / 'shares.png', 'Where test images stop')


def draw_gallery(folder: Path, test: Any, stops: torch.Tensor, dataset: Any,
                 title: str) -> None:
    """Draw images that stopped at each exit, with their boxes."""
    from mmdynperceiver.detection.pictures import plot_detections
    groups: Dict[str, List[tuple]] = {}
    for k in range(len(test.macs)):
        stopped = (stops == k).nonzero().flatten().tolist()
        heading = f'exit {k}: {len(stopped) / len(stops):.1%} stopped here'
        # Evenly spaced, always the same ones.
        shown = stopped[::max(1, len(stopped) // IN_GALLERY)][:IN_GALLERY]
        groups[heading] = [
            (mmcv.imread(test.samples[i]['img_path'],
                         channel_order='rgb'), test.found[i][k],
             truth_of(dataset, i)) for i in shown
        ]
    plot_detections(groups, test.classes, folder / 'gallery.png', title)


def truth_of(dataset: Any, index: int) -> InstanceData:
    """The annotated boxes of an image, in its own pixels."""
    instances = [
        instance for instance in dataset.get_data_info(index)['instances']
        if not instance['ignore_flag']
    ]
    return InstanceData(
        bboxes=torch.tensor([i['bbox'] for i in instances]).reshape(-1, 4),
        labels=torch.tensor([i['bbox_label'] for i in instances]).long())


def print_rows(rows: List[SweepRow], chosen: SweepRow, number: int) -> None:
    """Print each exit beside the operating point."""
    table = Table(title=f'{number:,} test images')
    for name in ('exit', 'box AP (%)', 'MACs (M)', 'of the last', 'share (%)'):
        table.add_column(name, justify='left' if name == 'exit' else 'right')
    exits = select(rows, 'exit', 'test')
    for row in [*exits, chosen]:
        shares = '' if row is not chosen else ' / '.join(
            f'{100 * share:.0f}' for share in row.shares)
        table.add_row(row.series, f'{100 * row.accuracy:.2f}',
                      f'{row.macs / 1e6:.2f}',
                      f'{row.macs / exits[-1].macs:.0%}', shares)
    Console().print(table)


class Tested(NamedTuple):
    """What the test images tell about an operating point."""

    rows: List[SweepRow]
    chosen: SweepRow
    detections: Any
    dataset: Any


def run_test(config: Config, model: nn.Module, held_out: Any,
             point: OperatingPoint, content: Mapping[str, Any]) -> Tested:
    """Evaluate on the test images."""
    test, dataset = collect(config, model, 'test', content)
    solved_on = {sample['img_path'] for sample in held_out.samples}
    known = sum(sample['img_path'] in solved_on for sample in test.samples)
    if known:
        print(f'{known} of the {len(test.samples)} test images are held-out '
              f'images, on which the thresholds were solved: on others they '
              f'may be worth less')
    truth = test.metric(dataset.ann_file)
    rows = sweep(held_out, test, truth)
    stops = test.exit_indices(point.thresholds)
    chosen = test.row('stopping early', 'test', stops, truth,
                      point.solved_for['budget_macs'], point.thresholds)
    point.expected['test'] = dict(
        bbox_mAP=chosen.accuracy, shares=chosen.shares, macs=chosen.macs)
    print_rows(rows, chosen, len(test.found))
    return Tested(rows, chosen, test, dataset)


def write_report_of(args: argparse.Namespace, tested: Tested) -> None:
    """Write the folder of a table and pictures."""
    rows, chosen, test, dataset = tested
    name = os.path.splitext(os.path.basename(args.config))[0]
    stops = test.exit_indices(chosen.thresholds)
    with replacing_report(args.report) as folder:
        write_text(folder / 'sweep.csv', rows_to_csv([*rows, chosen]))
        draw(folder, rows, chosen, f'{name}\n{len(test.found):,} test images')
        draw_gallery(folder, test, stops, dataset,
                     'Easy to hard: boxes found (green), wrong (red), missed')
    print(f'wrote {args.report}')


def main() -> None:
    """Check what is given, run the network once, and solve."""
    args = parse_args()
    config = common.load_config(args)
    check_args(args)
    weights = read_weights(args.checkpoint)
    splits = ['val'] + ['test'] * (args.report is not None)
    check_data_folders(config, [f'{name}_dataloader' for name in splits])
    check_splits(config)
    model = load_model(config, args, weights)
    content = read_checkpoint(args.checkpoint)
    held_out, _ = collect(config, model, 'val', content)
    point = solve(args, model, held_out, weights)
    thresholds = ', '.join(f'{t:.4g}' for t in point.thresholds)
    print(f'thresholds ({CRITERION}): {thresholds}')
    tested = None
    if args.report is not None:
        tested = run_test(config, model, held_out, point, content)
    calibrate.write_points(args, [point])
    if tested is not None:
        write_report_of(args, tested)


if __name__ == '__main__':
    common.run_tool(main)
