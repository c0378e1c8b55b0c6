# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""One calibration for all tasks, from a checkpoint to operating points."""
import argparse
import os
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, Dict, List, Optional, Tuple

from mmengine.config import Config
from rich.table import Table

from ..benchmark.latency import read_latencies
from ..calibration.exit_logits import ExitLogits
from ..calibration.operating_points import (outcomes_of, solve_points,
                                            write_points)
from ..core import OperatingPoint
from ..core.operating_point import describe_model
from ..datasets.class_names import checkpoint_classes
from ..errors import InputError, input_errors
from ..hosts.build import LabelledData, build_model, check_data_folders
from ..hosts.exit_logits import iter_exit_logits
from ..hosts.held_out import run_exits, sources_of
from ..io.checkpoint_file import read_checkpoint
from ..io.checkpoints import load_strict, read_weights
from . import common
from .calibrate_options import make_goal
from .tables import outcomes_table, print_outcomes

__all__ = ['Calibration']


class Calibration(ABC):
    """Held-out images in, operating points out: tables, files and a report.

    A task says which its data are, how it runs over them, and what a test
    and a report are. All that is given is checked before the network runs:
    the options, and the data of some splits of the config.
    """

    iter_exits = staticmethod(iter_exit_logits)

    def __init__(self, args: argparse.Namespace, config: Config, *splits:
                 str) -> None:
        self.args, self.config = args, config
        self.weights = read_weights(args.checkpoint)
        check_data_folders(config, [f'{name}_dataloader' for name in splits])
        self.model = build_model(config)
        self.check_model()
        load_strict(self.model, self.weights, args.checkpoint)
        with input_errors():
            self.model = self.model.to(args.device)
        self.made_for = describe_model(*self.model.exit_parts())
        if self.made_for['num_exits'] == 1:
            raise InputError(
                'the model has one exit, so there are no thresholds to '
                'solve: tools/test.py tells its accuracy')
        self.latencies: Optional[Tuple[float, ...]] = None
        if args.latency_table:
            self.latencies = read_latencies(args.latency_table, self.made_for)
        self.data = self.load_data()
        self.given: Optional[OperatingPoint] = None
        if args.thresholds_file is not None:
            with input_errors():
                self.given = OperatingPoint.load(args.thresholds_file,
                                                 self.made_for['num_exits'],
                                                 self.made_for)

    def known_classes(self, num_classes: int) -> Optional[List[str]]:
        """Names of the classes in the checkpoint, if it has so many."""
        return checkpoint_classes(
            read_checkpoint(self.args.checkpoint), num_classes)

    def check_model(self) -> None:
        """Refuse a model of another task, before weights are loaded."""

    @abstractmethod
    def load_data(self) -> LabelledData:
        """The held-out images, and all else that needs to be checked."""

    @abstractmethod
    def transform(self, split: str) -> Any:
        """What is done to the images of a split."""

    def test(self, points: List[OperatingPoint]) -> List[Table]:
        """Fill ``expected['test']`` of each point; returns what to print."""
        raise NotImplementedError

    def write_report(self, points: List[OperatingPoint],
                     held_out: ExitLogits) -> Any:
        """Write the folder of tables and pictures; returns what to open."""
        raise NotImplementedError

    def run_exits(self, data: LabelledData, split: str,
                  name: str) -> Tuple[ExitLogits, Dict[str, str]]:
        """Run all exits, or take them from the cache; and their sources."""
        with input_errors(OSError):
            sources = sources_of(self.config, self.weights, data,
                                 self.transform(split), f'reading {name}')
        cached = run_exits(self.model, data, self.config, split, sources, name,
                           self.iter_exits)
        if cached.num_reused:
            print(f'{cached.num_reused} of the {len(data.labels)} {name} were '
                  f'run before ({cached.folder})')
        return cached.exits, sources

    @cached_property
    def held_out(self) -> Tuple[ExitLogits, Dict[str, str]]:
        """All exits over the held-out images, and their sources."""
        common.check_writable_folder(self.config.work_dir)
        return self.run_exits(self.data, self.args.split, 'held-out images')

    def solve(self, exits: ExitLogits,
              sources: Dict[str, str]) -> List[OperatingPoint]:
        """Solve what was asked for."""
        args = self.args
        goal = make_goal(args, exits.macs, self.latencies)
        if goal.note:
            print(goal.note)
        return solve_points(
            exits,
            goal,
            args.solver,
            args.criterion,
            args.temperature == 'fit',
            self.given,
            self.latencies,
            args.ensemble,
            args.learner or 'induction',
            data=dict(
                split=args.split,
                hold_out=args.hold_out,
                num_images=len(exits.paths),
                fingerprint=sources['data'],
                transform=sources['transform']),
            checkpoint=dict(
                file=os.path.basename(args.checkpoint),
                fingerprint=sources['checkpoint']),
            model=self.made_for)

    def run(self) -> None:
        """Run the network once, solve, test, print and write."""
        args = self.args
        exits, sources = self.held_out
        points = self.solve(exits, sources)
        outcomes = outcomes_of(points[0], exits)
        number = outcomes.num_samples
        tables = [
            outcomes_table(f'{number:,} held-out images', outcomes.static(),
                           [point.expected for point in points],
                           outcomes.measure, number)
        ]
        if args.test:
            tables += self.test(points)
        print_outcomes(points, tables, number, args.test)
        write_points(points, args.out, args.checkpoint, args.embed)
        if args.report:
            print(f'wrote {self.write_report(points, exits)}')
