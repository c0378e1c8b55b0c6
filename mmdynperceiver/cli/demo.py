# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The main job on embedded data, from nothing to pictures.

Makes the digits, trains a small Dyn-Perceiver on them, picks thresholds on
the validation images, and shows on the test images what leaving early saves.
"""
import argparse
import os
import platform
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Dict, Sequence

import mmengine
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ..benchmark.latency import describe_machine, measure_exits
from ..calibration.goals import Goal
from ..calibration.operating_points import (describe_outcome, outcomes_of,
                                            solve_points)
from ..compat.model_hub import config_root
from ..core import OperatingPoint
from ..core.operating_point import describe_model
from ..errors import InputError
from ..hosts.exit_logits import ExitLogits, collect_exit_logits
from ..hosts.wrappers import unwrap_model
from ..io.atomic import atomic_file, write_json
from ..progress import progress_bar
from ..report import PipelineImages, check_report_folder, write_report
from .common import (add_device_option, add_quiet_option, add_threads_option,
                     apply_run_options)
from .console import console, say, say_step
from .tables import outcomes_table
from .training import forget_checkpoints, train_or_resume

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(config_root(),
              'configs/demo/dyn-perceiver_resnet22-w025_1xb128_digits.py')
COUNTS = dict(train=30000, val=2000, test=2000)
# Above 1: more of the images are hard ones than easy ones.
HARDNESS = 1.3
# Copied from the report for README.
PICTURES = ('accuracy_macs.png', 'gallery.png')
# Mean MACs that the operating point may cost, of those of the last exit.
BUDGET = 0.5

# mmcv-lite says at every import that it has no compiled operators.
warnings.filterwarnings('ignore', module='mmcv')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/demo'),
        help='where checkpoints, tables and pictures go')
    parser.add_argument(
        '--data-root',
        type=Path,
        default=Path('data/digits'),
        help='where the images go (about 130 MB)')
    parser.add_argument(
        '--epochs', type=int, help='train for another number of epochs')
    parser.add_argument(
        '--fresh',
        action='store_true',
        help='train anew, even if there is a trained model')
    add_device_option(parser)
    add_threads_option(parser)
    add_quiet_option(parser)
    args = parser.parse_args()
    if args.epochs is not None and args.epochs < 1:
        parser.error(f'--epochs must be at least 1, got {args.epochs}')
    return args


def make_data(root: Path) -> None:
    """Make the images, or find them made."""
    if not (ROOT / 'projects/digits').is_dir():
        raise InputError('the demo makes its data with projects/digits, which '
                         'is in no wheel: run `make demo` in a checkout')
    sys.path.insert(0, str(ROOT))
    from projects.digits import ImageFolder

    with progress_bar() as bar:
        task = bar.add_task('making images', total=sum(COUNTS.values()))

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        images = ImageFolder(COUNTS, hardness=HARDNESS)
        workers = min(2, os.cpu_count() or 1)
        made = images.write(root, workers=workers, progress=update)
        if not made:
            bar.update(task, visible=False)
    say(f'{root}: {COUNTS["train"]:,} training, {COUNTS["val"]:,} validation '
        f'and {COUNTS["test"]:,} test images'
        f'{"" if made else " are there already"}')


def train(args: argparse.Namespace) -> Runner:
    """Train, go on with an interrupted training, or take a finished one."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(args.work_dir)
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.data_root = str(args.data_root)
    if args.epochs is not None:
        cfg.train_cfg.max_epochs = args.epochs
    if args.fresh:
        forget_checkpoints(args.work_dir)
    return train_or_resume(cfg, say)


@torch.no_grad()
def really_stop(runner: Runner,
                thresholds: Sequence[float]) -> Dict[str, float]:
    """Run the test images with and without leaving early, and time both."""
    model = unwrap_model(runner.model).eval()
    batches = list(runner.test_dataloader)
    seconds = {'all': float('inf'), 'early': float('inf')}
    for _ in range(2):
        for kind, value in (('all', (2., 2., 2.)), ('early', thresholds)):
            model.policy.set_thresholds(value)
            start = time.perf_counter()
            for batch in batches:
                model.test_step(batch)
            seconds[kind] = min(seconds[kind], time.perf_counter() - start)
    return seconds


def report(args: argparse.Namespace, runner: Runner, held_out: ExitLogits,
           test: ExitLogits, point: OperatingPoint) -> None:
    """Write the report, and the two pictures that README shows."""
    model = unwrap_model(runner.model)
    dataset = runner.test_dataloader.dataset
    images = PipelineImages(dataset, model)
    # One image at a time: what someone who waits for an answer feels.
    measured = measure_exits(
        model, [images(i).inputs[None] for i in range(20)], runs=40)
    # What --latency-table of tools/calibrate.py takes.
    write_json(
        args.work_dir / 'latency.json',
        dict(
            exits=measured,
            model=describe_model(*model.exit_parts()),
            batch_size=1,
            machine=describe_machine(next(model.parameters()).device)))
    page = write_report(
        args.work_dir / 'report',
        held_out=held_out,
        test=test,
        macs=held_out.macs,
        model_name='small Dyn-Perceiver on digits',
        points=[point],
        latency_ms=[row['median_ms'] for row in measured],
        images=images,
        model=model,
        class_names=dataset.CLASSES)
    for name in PICTURES:
        with atomic_file(args.work_dir / name) as temporary:
            shutil.copyfile(page.with_name(name), temporary)


def calibrate(args: argparse.Namespace, model: torch.nn.Module,
              held_out: ExitLogits) -> OperatingPoint:
    """Choose the most accurate operating point in the budget; write it."""
    goal = Goal(held_out.macs, budget=BUDGET * held_out.macs[-1])
    point, = solve_points(
        held_out,
        goal,
        data=dict(split='val', num_images=len(held_out.paths)),
        model=describe_model(*model.exit_parts()))
    path = args.work_dir / 'thresholds.json'
    point.save(path)
    console.print('an image leaves where its confidence reaches '
                  f'{", ".join(f"{t:.3f}" for t in point.thresholds)} '
                  f'({path})')
    return point


def evaluate_test(args: argparse.Namespace, runner: Runner, test: ExitLogits,
                  point: OperatingPoint) -> None:
    """Print and write what the operating point brings on the test images."""
    samples = outcomes_of(point, test)
    brought = describe_outcome(samples, point.thresholds)
    static = samples.static()
    seconds = really_stop(runner, point.thresholds)
    console.print(
        outcomes_table(f'{samples.num_samples:,} test images', static,
                       [brought]))
    console.print(
        f'really stopping took {seconds["early"]:.2f} s, all exits '
        f'{seconds["all"]:.2f} s ({seconds["early"] / seconds["all"]:.2f} of '
        f'the time; {torch.get_num_threads()} threads, torch '
        f'{torch.__version__}, {platform.machine()})')
    results = dict(
        thresholds=point.thresholds,
        accuracy=[outcome.utility for outcome in static],
        macs=samples.cost,
        dynamic=brought,
        seconds=seconds,
        torch=torch.__version__,
        mmengine=mmengine.__version__)
    write_json(args.work_dir / 'results.json', results)


def run(args: argparse.Namespace) -> None:
    """Run the four steps."""
    # Before work is lost.
    check_report_folder(args.work_dir / 'report')
    apply_run_options(args)
    say_step('1/4  data')
    make_data(args.data_root)
    say_step('2/4  training')
    runner = train(args)
    model = unwrap_model(runner.model)

    say_step('3/4  thresholds from the validation images')
    held_out = collect_exit_logits(model, runner.val_dataloader, 'validation')
    point = calibrate(args, model, held_out)

    say_step('4/4  test images')
    test = collect_exit_logits(model, runner.test_dataloader, 'test')
    evaluate_test(args, runner, test, point)
    report(args, runner, held_out, test, point)
    for name in (*PICTURES, 'results.json'):
        console.print(f'wrote {args.work_dir / name}')
    console.print(f'wrote {args.work_dir / "report/index.html"}: open it in a '
                  f'browser')


def main() -> int:
    """Run the demo; expected errors are one line."""
    args = parse_args()
    try:
        run(args)
    except (InputError, OSError, ValueError) as error:
        console.print(f'error: {error}', style='red')
        return 1
    except KeyboardInterrupt:
        console.print('stopped; the same command goes on from here')
        return 130
    return 0
