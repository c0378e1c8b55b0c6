# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Solve the thresholds of a checkpoint for a budget, on held-out images."""
import argparse
import os
from typing import Any, List, Optional, Sequence

from mmengine.config import Config
from rich.table import Table

from ..calibration.exit_logits import ExitLogits
from ..calibration.operating_points import describe_outcome, outcomes_of
from ..core import OperatingPoint
from ..datasets.lists import as_utf8, write_list
from ..hosts.build import LabelledData, check_data_folders, test_transform
from ..hosts.held_out import (check_held_out, check_images, held_out_data,
                              separate_test_data, training_data)
from ..progress import is_quiet
from . import common
from .calibrate_options import (add_class_options, check_args, make_goal,
                                make_parser)
from .calibration import Calibration
from .tables import outcomes_table


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line, or what is given instead."""
    parser = make_parser(
        'Solve the thresholds of a checkpoint on held-out images '
        'and write them to a file. Without a checkpoint, --hold-out writes '
        'the list of images that training has to leave out.')
    add_class_options(parser)
    return parser.parse_args(argv)


def write_hold_out(config: Config, args: argparse.Namespace) -> None:
    """Write the list of images that training has to leave out."""
    check_data_folders(config, (f'{args.split}_dataloader', ))
    data = held_out_data(config, args.split, args.hold_out)
    path = os.path.join(config.work_dir,
                        f'hold_out_{args.split}_{args.hold_out}.txt')
    write_list(path, data.names())
    print(f'wrote {path}: {len(data.labels)} images of '
          f'{len(set(data.labels))} classes\nleave them out of training with '
          f'--cfg-options {args.split}_dataloader.dataset.exclude={path}')


class ClassCalibration(Calibration):
    """Images or videos of classes."""

    test_data: Optional[LabelledData] = None
    test_exits: Optional[ExitLogits] = None

    def transform(self, split: str) -> Any:
        """That of the test data, whichever they are taken from."""
        return test_transform(self.config)

    def load_data(self) -> LabelledData:
        """The held-out images, all of them checked."""
        config, args = self.config, self.args
        data = held_out_data(config, args.split, args.hold_out)
        num_classes = self.made_for['num_classes']
        known = self.known_classes(num_classes)
        training = training_data(config)
        if training is None:
            print('there are no training images here to compare with')
        remedy = 'choose other images with --split'
        if args.hold_out is not None:
            remedy = (f'run tools/calibrate.py {args.config} --hold-out '
                      f'{args.hold_out}, and train with the list that it '
                      f'writes')
        check_held_out(data, num_classes, training, remedy, known)
        if args.test:
            self.test_data = separate_test_data(config, data, args.hold_out
                                                is not None)
            check_images('test images', self.test_data, num_classes, known)
        with common.input_errors():
            shape = data.dataset[0]['inputs'].shape
        # A budget out of range is known before the network runs.
        make_goal(args, self.model.macs_per_exit(shape), self.latencies)
        self.classes = data.classes or known
        return data

    def test(self, points: List[OperatingPoint]) -> List[Table]:
        """Replay the thresholds on the logits of the test images."""
        assert self.test_data is not None
        self.test_exits, _ = self.run_exits(self.test_data, 'test',
                                            'test images')
        outcomes = outcomes_of(points[0], self.test_exits)
        for point in points:
            point.expected['test'] = describe_outcome(outcomes,
                                                      point.thresholds,
                                                      self.latencies)
        return [
            outcomes_table(
                f'{outcomes.num_samples:,} test images',
                outcomes.static(),
                [point.expected['test'] for point in points],
                number=outcomes.num_samples)
        ]

    def write_report(self, points: List[OperatingPoint],
                     held_out: ExitLogits) -> Any:
        """Write the folder of tables and pictures."""
        from ..report import PipelineImages, sweep_curve, write_report
        args = self.args
        shown = self.test_data or self.data
        return write_report(
            args.report,
            held_out=held_out,
            test=self.test_exits,
            macs=held_out.macs,
            model_name=os.path.splitext(os.path.basename(args.config))[0],
            points=[] if args.sweep else points,
            curves=[sweep_curve(points)] if args.sweep else [],
            latency_ms=self.latencies,
            images=PipelineImages(shown.dataset, self.model),
            model=self.model,
            criterion=points[0].criterion if args.sweep else None,
            temperature=points[0].temperature if args.sweep else None,
            ensemble=points[0].ensemble if args.sweep else None,
            progress=not is_quiet(),
            class_names=None if self.classes is None else
            [as_utf8(name) for name in self.classes])


def main() -> None:
    """Check what is given, run the network once, and solve."""
    args = parse_args()
    config = common.load_config(args)
    check_args(args)
    if args.checkpoint is None:
        write_hold_out(config, args)
        return
    ClassCalibration(args, config, args.split, *['test'] * args.test).run()
