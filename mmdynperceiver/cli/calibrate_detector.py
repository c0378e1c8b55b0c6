# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Solve the thresholds of a detector that stops early, on held-out images.

The utility of an answer is minus its detection loss. The thresholds of the
best utility within a budget of MACs, found on the validation images of the
config, are written as an operating point. With --test or --report, the test
images tell what they are worth: average precision against mean MACs, beside
stopping by chance and always at the same exit.
"""
import math
import os
from pathlib import Path
from typing import Any, Dict, List, Optional

import mmcv
from mmengine.config import Config
from rich.table import Table

from ..calibration.exit_logits import ExitLogits
from ..calibration.operating_points import outcomes_of
from ..core import OperatingPoint
from ..datasets.class_names import config_num_classes
from ..errors import InputError
from ..hosts.build import (LabelledData, annotation_file, iter_batches,
                           overlap, test_transform)
from ..io.atomic import write_text
from ..progress import progress_bar
from ..report import replacing_report
from ..report.curve import Curve, plot_accuracy_macs
from ..report.pictures import plot_shares
from ..report.sweep import (SweepRow, rows_to_csv, select, static_rows,
                            sweep_budgets, sweep_rows, whole_curve)
from . import common
from .calibrate_options import check_args, make_parser
from .calibration import Calibration
from .tables import outcomes_table

NUM_BUDGETS = 10
IN_GALLERY = 12


def check_splits(config: Config, split: str) -> None:
    """Refuse to solve on the images that the network was trained on."""
    held_out, training = (
        annotation_file(config, name) for name in (split, 'train'))
    if held_out and held_out == training:
        raise InputError(
            f'the held-out images are training images, both are those of '
            f'{held_out!r}: give val_dataloader.dataset another ann_file')


class DetectorCalibration(Calibration):
    """Images with boxes."""

    def check_model(self) -> None:
        """Refuse all but detectors that stop early."""
        if not hasattr(self.model, 'keep_losses'):
            raise InputError(f'{self.args.config!r} is not of a detector that '
                             f'stops early, but of a '
                             f'{type(self.model).__name__}')
        # What needs the detector's host is imported once one is there.
        from ..detection import evaluation
        self.detection = evaluation
        self.iter_exits = evaluation.iter_exit_losses

    def transform(self, split: str) -> Any:
        """The split's own pipeline."""
        return test_transform(self.config, (split, ))

    def load_data(self) -> LabelledData:
        """The held-out and the test images."""
        known = self.known_classes(config_num_classes(self.config) or 0)
        data = self.detection.detection_data(self.config, self.args.split,
                                             known)
        self.test_data: Optional[LabelledData] = None
        if self.args.test:
            self.test_data = self.detection.detection_data(
                self.config, 'test', known)
            number, _ = overlap(self.test_data, data)
            if number:
                print(f'{number} of the {len(self.test_data.paths)} test '
                      f'images are held-out images, on which the thresholds '
                      f'were solved: on others they may be worth less')
        return data

    def test(self, points: List[OperatingPoint]) -> List[Table]:
        """Measure the box AP on the test images."""
        data, loader = self.test_data, self.config.test_dataloader
        assert data is not None
        detections = self.detection.collect_detections(
            self.model, iter_batches(data, loader, 0), 'test images',
            math.ceil(len(data.paths) / loader.get('batch_size', 1)))
        self.judge = self.detection.PrecisionJudge(detections,
                                                   data.dataset.ann_file,
                                                   data.classes)
        for point in points:
            outcome = self.judge.evaluate(point.thresholds)
            point.expected['test'] = dict(
                bbox_mAP=outcome.utility,
                shares=outcome.shares,
                macs=outcome.cost)
        return [
            outcomes_table(f'{len(data.paths):,} test images',
                           self.judge.static(),
                           [point.expected['test'] for point in points],
                           'bbox_mAP')
        ]

    def sweep(self, held_out: ExitLogits, point: OperatingPoint) -> list:
        """Each policy at each budget, and each exit, on the test images."""
        outcomes = outcomes_of(point, held_out)
        budgets = sweep_budgets(held_out.macs, NUM_BUDGETS)[1:-1]
        data = dict(test=self.judge)
        with progress_bar() as bar:
            task = bar.add_task('budgets', total=len(budgets))
            return static_rows(data) + sweep_rows(
                outcomes,
                data,
                budgets,
                tick=lambda: bar.advance(task),
                solvers=['search'])

    def write_report(self, points: List[OperatingPoint],
                     held_out: ExitLogits) -> Any:
        """Write the folder of a table and pictures."""
        args = self.args
        name = os.path.splitext(os.path.basename(args.config))[0]
        rows = self.sweep(held_out, points[0])
        chosen = [
            SweepRow.of(
                self.judge.evaluate(point.thresholds), None, 'stopping early',
                'test', point.solved_for.get('budget_macs'), point.thresholds)
            for point in points
        ]
        number = len(self.judge.detections.found)
        with replacing_report(Path(args.report)) as folder:
            write_text(folder / 'sweep.csv',
                       rows_to_csv([*rows, *chosen], 'utility'))
            draw(folder, rows, chosen, f'{name}\n{number:,} test images')
            self.draw_gallery(folder, points[0].thresholds)
        return args.report

    def draw_gallery(self, folder: Path, thresholds: Any) -> None:
        """Draw images that stopped at each exit, with their boxes."""
        from ..detection.pictures import plot_detections
        detections = self.judge.detections
        stops = self.judge.exit_indices(thresholds)
        groups: Dict[str, List[tuple]] = {}
        for k in range(len(self.judge.static())):
            stopped = (stops == k).nonzero().flatten().tolist()
            heading = f'exit {k}: {len(stopped) / len(stops):.1%} stopped here'
            # Evenly spaced, always the same ones.
            shown = stopped[::max(1, len(stopped) // IN_GALLERY)][:IN_GALLERY]
            groups[heading] = [(mmcv.imread(
                detections.samples[i]['img_path'],
                channel_order='rgb'), detections.found[i][k],
                                self.detection.truth_of(self.test_data, i))
                               for i in shown]
        plot_detections(
            groups, self.test_data.classes, folder / 'gallery.png',
            'Easy to hard: boxes found (green), wrong (red), missed')


def draw(folder: Path, rows: List[SweepRow], chosen: List[SweepRow],
         title: str) -> None:
    """Draw precision against cost, and where the images stop."""

    def curve(label: str, found: List[SweepRow], **options: Any) -> Curve:
        return Curve(label, [row.macs for row in found],
                     [100 * row.utility for row in found], **options)

    searched = whole_curve(rows, 'search', 'test')
    exits = select(rows, 'exit', 'test')
    curves = [
        curve('stopping early', searched, style='-'),
        curve(
            'stopping at random, same shares',
            whole_curve(rows, 'random', 'test'),
            style=':'),
        curve('always the same exit', exits, labels=[e.series for e in exits])
    ]
    marked = [(row.macs, 100 * row.utility, 'operating point')
              for row in chosen]
    plot_accuracy_macs(
        curves,
        folder / 'precision_macs.png',
        title,
        chosen=marked,
        measure='box AP (COCO)')
    plot_shares([row.macs for row in searched],
                [row.shares for row in searched], folder / 'shares.png',
                'Where test images stop')


def main() -> None:
    """Check what is given, run the network once, and solve."""
    args = make_parser(__doc__.split('\n')[0], 'utility').parse_args()
    args.test = args.test or bool(args.report)
    config = common.load_config(args)
    check_args(args)
    check_splits(config, args.split)
    DetectorCalibration(args, config, args.split, *['test'] * args.test).run()
