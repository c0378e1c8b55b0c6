# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Solve the thresholds of a checkpoint for a budget, on held-out images."""
import argparse
import os
from typing import (Any, Dict, List, Mapping, NamedTuple, Optional, Sequence,
                    Tuple)

from mmengine.config import Config
from torch import nn

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.benchmark.latency import read_latencies
from mmdynperceiver.calibration.goals import Goal, parse_accuracy, parse_amount
from mmdynperceiver.calibration.held_out import HeldOut, evaluate
from mmdynperceiver.cli import common
from mmdynperceiver.cli.calibrate_options import check_args, parse_args
from mmdynperceiver.cli.tables import print_outcomes
from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.core.operating_point import describe_model
from mmdynperceiver.datasets.class_names import checkpoint_classes
from mmdynperceiver.datasets.lists import as_utf8, write_list
from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts import calibrate
from mmdynperceiver.hosts.build import (LabelledData, build_data, build_model,
                                        check_data_folders)
from mmdynperceiver.hosts.exit_logits import ExitLogits
from mmdynperceiver.hosts.held_out_data import (check_images, held_out_data,
                                                separate_test_data)
from mmdynperceiver.io.checkpoint_file import read_checkpoint
from mmdynperceiver.io.checkpoints import load_strict, read_weights


class Job(NamedTuple):
    """All that is known before the network runs."""

    config: Config
    weights: Mapping[str, Any]
    model: nn.Module
    data: LabelledData
    split: str
    test: Optional[LabelledData]
    made_for: Dict[str, Any]
    latencies: Optional[Tuple[float, ...]]
    given: Optional[OperatingPoint]
    classes: Optional[Sequence[str]]


def list_file(config: Config, args: argparse.Namespace) -> str:
    """The file that names the images of a hold-out."""
    return os.path.join(config.work_dir,
                        f'hold_out_{args.split}_{args.hold_out}.txt')


def write_hold_out(config: Config, args: argparse.Namespace) -> None:
    """Write the list of images that training has to leave out."""
    check_data_folders(config, (f'{args.split}_dataloader', ))
    data = held_out_data(config, args.split, args.hold_out)
    path = list_file(config, args)
    write_list(path, data.names())
    print(f'wrote {path}: {len(data.labels)} images of '
          f'{len(set(data.labels))} classes\nleave them out of training with '
          f'--cfg-options {args.split}_dataloader.dataset.exclude={path}')


def load_model(config: Config, args: argparse.Namespace,
               weights: Mapping[str, Any]) -> nn.Module:
    """Build the model with the checkpoint's weights."""
    model = build_model(config)
    load_strict(model, weights, args.checkpoint)
    with common.input_errors():
        return model.to(args.device)


def prepare(config: Config, args: argparse.Namespace) -> Job:
    """Read and check everything before the network runs."""
    weights = read_weights(args.checkpoint)
    splits = [args.split] + ['test'] * args.test
    check_data_folders(config, [f'{name}_dataloader' for name in splits])
    model = load_model(config, args, weights)
    made_for = describe_model(*model.exit_parts())
    if made_for['num_exits'] == 1:
        raise InputError('the model has one exit, so there are no thresholds '
                         'to solve: tools/test.py tells its accuracy')
    latencies = None
    if args.latency_table:
        latencies = read_latencies(args.latency_table, made_for)
    data = held_out_data(config, args.split, args.hold_out)
    num_classes = made_for['num_classes']
    known = checkpoint_classes(read_checkpoint(args.checkpoint), num_classes)
    check_held_out(config, args, data, num_classes, known)
    test = None
    if args.test:
        test = separate_test_data(config, data, args.hold_out is not None)
        check_images('test images', test, num_classes, known)
    with common.input_errors():
        shape = data.dataset[0]['inputs'].shape
    # Before the network runs over all images, so that a budget out of range
    # is known at once.
    note = make_goal(args, model.macs_per_exit(shape), latencies).note
    if note:
        print(note)
    return Job(config, weights, model, data, args.split, test, made_for,
               latencies, given_point(args, made_for), data.classes or known)


def given_point(args: argparse.Namespace,
                made_for: Dict[str, Any]) -> Optional[OperatingPoint]:
    """The operating point of --thresholds-file."""
    if args.thresholds_file is None:
        return None
    with common.input_errors():
        return OperatingPoint.load(args.thresholds_file, made_for['num_exits'],
                                   made_for)


def check_held_out(config: Config, args: argparse.Namespace,
                   data: LabelledData, num_classes: int,
                   known: Optional[Sequence[str]]) -> None:
    """Refuse held-out images that do not fit."""
    training = calibrate.training_data_config(config)
    if training is None:
        print('there are no training images here to compare with')
    remedy = 'choose other images with --split'
    if args.hold_out is not None:
        remedy = (f'run tools/calibrate.py {args.config} --hold-out '
                  f'{args.hold_out}, and train with the list that it writes')
    listed = None
    if training is not None:
        listed = build_data(config, training, only_list=True)
    calibrate.check_held_out(data, num_classes, listed, remedy, known)


def make_goal(args: argparse.Namespace, macs: Sequence[float],
              latencies: Optional[Sequence[float]]) -> Goal:
    """What is asked for; it counts in MACs or milliseconds."""
    if args.budget_ms:
        assert latencies is not None
        budget = parse_amount(args.budget_ms, latencies[-1], '--budget-ms')
        return Goal(latencies, 'ms', budget)
    if args.budget_macs:
        budget = parse_amount(args.budget_macs, macs[-1], '--budget-macs')
        return Goal(macs, budget=budget)
    floor = parse_accuracy(args.min_accuracy) if args.min_accuracy else None
    return Goal(macs, min_accuracy=floor)


def run(job: Job, test: bool = False) -> Tuple[ExitLogits, Dict[str, str]]:
    """Run the network over the held-out or the test images."""
    data, split = (job.test, 'test') if test else (job.data, job.split)
    assert data is not None
    name = 'test images' if test else 'held-out images'
    with common.input_errors(OSError):
        sources = calibrate.sources_of(job.config, job.weights, data,
                                       f'reading {name}')
    cached = calibrate.run_exits(job.model, data, job.config, split, sources,
                                 name)
    if cached.num_reused:
        print(f'{cached.num_reused} of the {len(data.labels)} {name} were '
              f'run before ({cached.folder})')
    return cached.exits, sources


def solve_points(job: Job, args: argparse.Namespace, exits: ExitLogits,
                 sources: Dict[str, str]) -> List[OperatingPoint]:
    """Solve what was asked for."""
    criterion, temperature = args.criterion, None
    if job.given is not None:
        criterion, temperature = job.given.criterion, job.given.temperature
    elif args.temperature == 'fit':
        temperature = tuple(calibrate.fit_temperatures(exits))
    held_out = HeldOut.of(exits.logits, exits.labels, criterion, temperature)
    found, asked = thresholds_of(job, args, held_out, exits.macs)
    return [
        OperatingPoint(
            thresholds=tuple(thresholds),
            criterion=criterion,
            temperature=temperature,
            num_exits=len(exits.logits),
            solver=args.solver if job.given is None else job.given.solver,
            solved_for=solved_for,
            expected=calibrate.outcome_dict(
                evaluate(held_out, thresholds, exits.macs), exits.macs,
                job.latencies, len(exits.labels)),
            data=dict(
                split=args.split,
                hold_out=args.hold_out,
                num_images=len(exits.labels),
                fingerprint=sources['data'],
                transform=sources['transform']),
            checkpoint=dict(
                file=os.path.basename(args.checkpoint),
                fingerprint=sources['checkpoint']),
            model=job.made_for)
        for thresholds, solved_for in zip(found, asked)
    ]


def thresholds_of(job: Job, args: argparse.Namespace, held_out: HeldOut,
                  macs: Sequence[float]) -> Tuple[list, List[dict]]:
    """Thresholds, and what each of them were solved for."""
    if job.given is not None:
        return [job.given.thresholds], [job.given.solved_for]
    if args.sweep:
        found = calibrate.solve_sweep(held_out, macs, args.solver)
        return found, [
            dict(sweep=args.sweep, index=i) for i in range(len(found))
        ]
    goal = make_goal(args, macs, job.latencies)
    return [calibrate.solve(held_out, goal, args.solver)], [goal.as_dict()]


def write_report_of(job: Job, args: argparse.Namespace,
                    points: List[OperatingPoint], held_out: ExitLogits,
                    test: Optional[ExitLogits]) -> None:
    """Write the folder of tables and pictures."""
    from mmdynperceiver.report import PipelineImages, sweep_curve, write_report
    shown = job.data if job.test is None else job.test
    page = write_report(
        args.report,
        held_out=held_out,
        test=test,
        macs=held_out.macs,
        model_name=os.path.splitext(os.path.basename(args.config))[0],
        points=[] if args.sweep else points,
        curves=[sweep_curve(points)] if args.sweep else [],
        latency_ms=job.latencies,
        images=PipelineImages(shown.dataset, job.model),
        model=job.model,
        criterion=points[0].criterion,
        temperature=points[0].temperature,
        class_names=None
        if job.classes is None else [as_utf8(name) for name in job.classes])
    print(f'wrote {page}')


def main() -> None:
    """Check what is given, run the network once, and solve."""
    args = parse_args()
    config = common.load_config(args)
    check_args(args)
    if args.checkpoint is None:
        write_hold_out(config, args)
        return
    job = prepare(config, args)
    common.check_writable_folder(config.work_dir)
    held_out, sources = run(job)
    points = solve_points(job, args, held_out, sources)
    test = run(job, test=True)[0] if args.test else None
    if test is not None:
        for point in points:
            point.expected['test'] = calibrate.evaluate_on(
                point, test, job.latencies)
    print_outcomes(points, held_out, test)
    calibrate.write_points(args, points)
    if args.report:
        write_report_of(job, args, points, held_out, test)


if __name__ == '__main__':
    common.run_tool(main, 'stopped; the same command goes on')
