# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Solve the thresholds of a checkpoint for a budget, on held-out images."""
import argparse
import os
from dataclasses import asdict
from typing import (Any, Dict, List, Mapping, NamedTuple, Optional, Sequence,
                    Tuple)

import torch
from mmengine.config import Config
from torch import nn

import mmdynperceiver  # noqa: F401  (heals the stack before it is imported)
from mmdynperceiver.core import (CRITERIA, HeldOut, OperatingPoint,
                                 describe_model, evaluate)
from mmdynperceiver.core.files import write_json
from mmdynperceiver.engine import ExitLogits, calibrate, cli
from mmdynperceiver.engine.checkpoints import load_whole, read_weights
from mmdynperceiver.engine.errors import InputError
from mmdynperceiver.engine.goals import Goal, parse_accuracy, parse_amount
from mmdynperceiver.engine.hold_out import choose_hold_out, write_list
from mmdynperceiver.engine.latency import read_latencies
from mmdynperceiver.engine.standalone import (LabelledData, build_data,
                                              build_model, overlap,
                                              split_config)
from mmdynperceiver.engine.tables import print_outcomes


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


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Solve the thresholds of a checkpoint on held-out images '
        'and write them to a file. Without a checkpoint, --hold-out writes '
        'the list of images that training has to leave out.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file')
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        '--budget-macs',
        help='most MACs of an image on average: 7.5M, 1.2G, a plain number, '
        'or a share of the last exit such as 50%%')
    goal.add_argument(
        '--budget-ms',
        help='most milliseconds of an image on average, or a share of the '
        'last exit such as 50%%; needs --latency-table')
    goal.add_argument(
        '--min-accuracy',
        help='least accuracy on the held-out images, 0.95 or 95%%, as cheap '
        'as possible')
    goal.add_argument(
        '--sweep',
        choices=['paper'],
        help='the 33 points of the published sweep, in one file')
    parser.add_argument(
        '--latency-table', help='JSON file of tools/benchmark.py')
    parser.add_argument(
        '--criterion',
        choices=CRITERIA,
        default='max_prob',
        help='what the thresholds are compared with (default: max_prob)')
    parser.add_argument(
        '--temperature',
        choices=['fit', 'none'],
        default='none',
        help='fit a temperature for each exit on the held-out images '
        '(default: none)')
    parser.add_argument(
        '--solver',
        choices=calibrate.SOLVERS,
        help='search the best thresholds, or find those of the published '
        'shares (default: search; for --sweep shares)')
    parser.add_argument(
        '--split',
        choices=['train', 'val', 'test'],
        help="the config's data to take held-out images from, with the "
        "test data's transform (default: val; with --hold-out train)")
    parser.add_argument(
        '--hold-out',
        type=int,
        metavar='N',
        help='take only N images, always the same ones and from each class '
        'its share; those of the training images must be left out of '
        'training')
    parser.add_argument(
        '--test',
        action='store_true',
        help='also evaluate the thresholds on the test data')
    parser.add_argument(
        '--report', metavar='DIR', help='write tables and pictures there')
    parser.add_argument(
        '--out',
        metavar='FILE.json',
        help='where the operating point goes (default: beside the '
        'checkpoint, <name>.operating_point.json)')
    parser.add_argument(
        '--embed',
        nargs='?',
        const='',
        metavar='FILE.pth',
        help='also write a copy of the checkpoint that carries the operating '
        'point (default: beside it, <name>.calibrated.pth)')
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='where the network runs (default: a GPU if there is one)')
    cli.add_common_options(parser)
    return parser.parse_args()


def check_args(args: argparse.Namespace) -> None:
    """Refuse options that do not go together, and fill in defaults."""
    if args.launcher != 'none':
        raise InputError('thresholds are solved in one process: leave out '
                         '--launcher')
    args.split = args.split or ('val' if args.hold_out is None else 'train')
    if args.checkpoint is None:
        if args.hold_out is None:
            raise InputError('give a checkpoint, or --hold-out for the list '
                             'of images that training has to leave out')
        return
    goals = (args.budget_macs, args.budget_ms, args.min_accuracy, args.sweep)
    if not any(goals):
        raise InputError('choose what to solve for: --budget-macs, '
                         '--budget-ms, --min-accuracy or --sweep paper')
    if args.budget_ms and not args.latency_table:
        raise InputError('--budget-ms needs --latency-table, which '
                         'tools/benchmark.py writes')
    args.solver = args.solver or ('shares' if args.sweep else 'search')
    if args.criterion == 'patience' and args.temperature == 'fit':
        raise InputError('a temperature does not change patience: leave out '
                         '--temperature fit')
    if args.sweep and args.embed is not None:
        raise InputError('--embed needs one operating point, not a sweep')
    stem = os.path.splitext(args.checkpoint)[0]
    kind = 'sweep' if args.sweep else 'operating_point'
    args.out = args.out or f'{stem}.{kind}.json'
    cli.check_writable_file(args.out, ('.json', ))
    if args.embed is not None:
        args.embed = args.embed or f'{stem}.calibrated.pth'
        cli.check_writable_file(args.embed, ('.pth', '.pt'))
        if os.path.realpath(args.embed) == os.path.realpath(args.checkpoint):
            raise InputError(f'--embed would replace the checkpoint '
                             f'{args.checkpoint!r}: give another name')


def list_file(config: Config, args: argparse.Namespace) -> str:
    """The file that names the images of a hold-out."""
    return os.path.join(config.work_dir,
                        f'hold_out_{args.split}_{args.hold_out}.txt')


def held_out_images(config: Config, args: argparse.Namespace) -> LabelledData:
    """The images to solve the thresholds on."""
    dataset = split_config(config, args.split)
    if args.hold_out is None:
        return build_data(config, dataset)
    # The choice is made among all images, whatever training leaves out.
    dataset.pop('exclude', None)
    data = build_data(config, dataset)
    return data.select(
        choose_hold_out(data.names(), data.labels, args.hold_out))


def write_hold_out(config: Config, args: argparse.Namespace) -> None:
    """Write the list of images that training has to leave out."""
    cli.check_data_folders(config, (f'{args.split}_dataloader', ))
    data = held_out_images(config, args)
    path = list_file(config, args)
    write_list(path, data.names())
    print(f'wrote {path}: {len(data.labels)} images of '
          f'{len(set(data.labels))} classes\nleave them out of training with '
          f'--cfg-options {args.split}_dataloader.dataset.exclude={path}')


def test_images(config: Config, args: argparse.Namespace,
                held_out: LabelledData) -> LabelledData:
    """The test images, none of them a held-out one."""
    data = build_data(config, split_config(config, 'test'))
    number, _ = overlap(held_out, data)
    if number and args.hold_out is not None:
        places = set(held_out.places())
        kept = [i for i, p in enumerate(data.places()) if p not in places]
        print(f'{number} of the {len(data.labels)} test images are held out; '
              f'the others are the test images')
        data, number = data.select(kept), 0
    if number:
        raise InputError(
            f'{number} of the {len(held_out.labels)} held-out images are test '
            f'images, so they test nothing: with --split test --hold-out N, '
            f'the thresholds are solved on N of them and tested on the others')
    return data


def load_model(config: Config, args: argparse.Namespace,
               weights: Mapping[str, Any]) -> nn.Module:
    """Build the model with the checkpoint's weights."""
    model = build_model(config)
    load_whole(model, weights, args.checkpoint)
    with cli.input_errors():
        return model.to(args.device)


def prepare(config: Config, args: argparse.Namespace) -> Job:
    """Read and check everything before the network runs."""
    weights = read_weights(args.checkpoint)
    splits = [args.split] + ['test'] * args.test
    cli.check_data_folders(config, [f'{name}_dataloader' for name in splits])
    model = load_model(config, args, weights)
    made_for = describe_model(*model.exit_parts())
    if made_for['num_exits'] == 1:
        raise InputError('the model has one exit, so there are no thresholds '
                         'to solve: tools/test.py tells its accuracy')
    latencies = None
    if args.latency_table:
        latencies = read_latencies(args.latency_table, made_for)
    data = held_out_images(config, args)
    check_images(config, args, data, made_for['num_classes'])
    test = test_images(config, args, data) if args.test else None
    with cli.input_errors():
        shape = data.dataset[0]['inputs'].shape
    # Before the network runs over all images, so that a budget out of range
    # is known at once.
    make_goal(args, model.macs_per_exit(shape), latencies)
    return Job(config, weights, model, data, args.split, test, made_for,
               latencies)


def check_images(config: Config, args: argparse.Namespace, data: LabelledData,
                 num_classes: int) -> None:
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
    calibrate.check_held_out(data, num_classes, listed, remedy)


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
    sources = calibrate.sources_of(job.config, job.weights, data)
    cached = calibrate.run_exits(job.model, data, job.config, split, sources,
                                 name)
    if cached.num_reused:
        print(f'{cached.num_reused} of the {len(data.labels)} {name} were '
              f'run before ({cached.folder})')
    return cached.exits, sources


def solve_points(job: Job, args: argparse.Namespace, exits: ExitLogits,
                 sources: Dict[str, str]) -> List[OperatingPoint]:
    """Solve what was asked for."""
    temperature: Optional[Tuple[float, ...]] = None
    if args.temperature == 'fit':
        temperature = tuple(calibrate.fit_temperatures(exits))
    held_out = HeldOut.of(exits.logits, exits.labels, args.criterion,
                          temperature)
    goal = make_goal(args, exits.macs, job.latencies)
    if args.sweep:
        found = calibrate.solve_sweep(held_out, exits.macs, args.solver)
        asked: List[dict] = [
            dict(sweep=args.sweep, index=i) for i in range(len(found))
        ]
    else:
        found = [calibrate.solve(held_out, goal, args.solver)]
        asked = [goal.as_dict()]
    return [
        OperatingPoint(
            thresholds=tuple(thresholds),
            criterion=args.criterion,
            temperature=temperature,
            num_exits=len(exits.logits),
            solver=args.solver,
            solved_for=solved_for,
            expected=calibrate.outcome_dict(
                evaluate(held_out, thresholds, exits.macs), exits.macs,
                job.latencies),
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


def write(args: argparse.Namespace, points: List[OperatingPoint]) -> None:
    """Write the result."""
    replaced = os.path.exists(args.out)
    if args.sweep:
        write_json(args.out, dict(points=[asdict(p) for p in points]))
    else:
        points[0].save(args.out)
    print(f'{"replaced" if replaced else "wrote"} {args.out}')
    if args.embed is not None:
        replaced = os.path.exists(args.embed)
        calibrate.embed_point(args.checkpoint, points[0], args.embed)
        print(f'{"replaced" if replaced else "wrote"} {args.embed}')


def write_report_of(job: Job, args: argparse.Namespace,
                    points: List[OperatingPoint], held_out: ExitLogits,
                    test: Optional[ExitLogits]) -> None:
    """Write the folder of tables and pictures."""
    from mmdynperceiver.report import PipelineImages, write_report
    shown = job.data if job.test is None else job.test
    page = write_report(
        args.report,
        held_out=held_out,
        test=test,
        macs=held_out.macs,
        model_name=os.path.splitext(os.path.basename(args.config))[0],
        points=[] if args.sweep else points,
        latency_ms=job.latencies,
        images=PipelineImages(shown.dataset, job.model),
        model=job.model,
        criterion=points[0].criterion,
        temperature=points[0].temperature,
        class_names=shown.classes)
    print(f'wrote {page}')


def main() -> None:
    """Check what is given, run the network once, and solve."""
    args = parse_args()
    config = cli.load_config(args)
    check_args(args)
    if args.checkpoint is None:
        write_hold_out(config, args)
        return
    job = prepare(config, args)
    cli.check_writable_folder(config.work_dir)
    if args.report:
        from mmdynperceiver.report import check_report_folder
        check_report_folder(args.report)
        cli.check_writable_folder(
            os.path.dirname(os.path.abspath(args.report)))
    held_out, sources = run(job)
    points = solve_points(job, args, held_out, sources)
    test = run(job, test=True)[0] if args.test else None
    if test is not None:
        for point in points:
            point.expected['test'] = calibrate.evaluate_on(
                point, test, job.latencies)
    print_outcomes(points, held_out, test)
    write(args, points)
    if args.report:
        write_report_of(job, args, points, held_out, test)


if __name__ == '__main__':
    try:
        cli.run_tool(main)
    except KeyboardInterrupt:
        raise SystemExit('stopped; the same command goes on') from None
