# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The main job on embedded data, from nothing to pictures.

Makes the digits, trains a small Dyn-Perceiver on them, picks thresholds on
the validation images, and shows on the test images what leaving early saves.
"""
import argparse
import io
import json
import logging
import os
import platform
import shutil
import sys
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import cv2
import mmengine
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

import mmdynperceiver  # noqa: F401  (heals the stack before it is used)
from mmdynperceiver.core import (Outcome, evaluate_thresholds, paper_shares,
                                 save_thresholds, solve_by_shares)
from mmdynperceiver.datagen import write_image_folder
from mmdynperceiver.engine import (ExitLogits, InputError, collect_exit_logits,
                                   progress_bar, unwrap_model)
from mmdynperceiver.report import (Curve, GalleryImage, plot_accuracy_macs,
                                   plot_gallery)

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/demo/dyn-perceiver_resnet22-w025_1xb128_digits.py'
COUNTS = dict(train=30000, val=2000, test=2000)
# Above 1: more of the images are hard ones than easy ones.
HARDNESS = 1.3
# How much accuracy on the validation images the operating point may cost.
TOLERANCE = 0.0025

console = Console()
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
    args = parser.parse_args()
    if args.epochs is not None and args.epochs < 2:
        parser.error(f'--epochs must be at least 2 (the first one warms up), '
                     f'got {args.epochs}')
    return args


def make_data(root: Path) -> None:
    """Make the images, or find them made."""
    with progress_bar() as bar:
        task = bar.add_task('making images', total=sum(COUNTS.values()))

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        root.parent.mkdir(parents=True, exist_ok=True)
        made = write_image_folder(
            root,
            COUNTS,
            hardness=HARDNESS,
            workers=min(2,
                        os.cpu_count() or 1),
            progress=update)
        if not made:
            bar.update(task, visible=False)
    console.print(f'{root}: {COUNTS["train"]:,} training, {COUNTS["val"]:,} '
                  f'validation and {COUNTS["test"]:,} test images'
                  f'{"" if made else " are there already"}')


def checkpoints(work_dir: Path) -> List[Path]:
    """Checkpoints of an earlier run, oldest first."""
    return sorted(
        work_dir.glob('epoch_*.pth'), key=lambda path: path.stat().st_mtime)


def build_runner(args: argparse.Namespace) -> Runner:
    """Build the runner; its log goes to a file, a bar to the console."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(args.work_dir)
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.data_root = str(args.data_root)
    if args.epochs is not None:
        cfg.train_cfg.max_epochs = args.epochs
    cfg.custom_hooks.append(dict(type='ProgressBarHook'))
    cfg.resume = bool(checkpoints(args.work_dir))
    # The runner's console handler keeps the stream that it finds here.
    with redirect_stdout(io.StringIO()):
        runner = Runner.from_cfg(cfg)
    for handler in runner.logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)
            handler.setLevel(logging.ERROR)
    return runner


def train(args: argparse.Namespace) -> Runner:
    """Train, go on with an interrupted training, or take a finished one."""
    if args.fresh and args.work_dir.exists():
        shutil.rmtree(args.work_dir)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    runner = build_runner(args)
    found = checkpoints(args.work_dir)
    if found and found[-1].name == f'epoch_{runner.max_epochs}.pth':
        console.print(f'{found[-1]} is trained already; --fresh trains anew')
        with redirect_stdout(io.StringIO()):
            runner.load_checkpoint(str(found[-1]))
    else:
        if found:
            console.print(f'going on from {found[-1]}')
        start = time.perf_counter()
        runner.train()
        console.print(f'trained in {time.perf_counter() - start:.0f} s')
    return runner


def sweep_shares() -> List[Tuple[float, ...]]:
    """Target shares from everything at the first exit to nearly none.

    The published sweep begins with about two thirds at the first exit; before
    it stand points between that and all images at the first exit.
    """
    published = paper_shares()
    cheapest = published[0]
    all_first = (1., *[0.] * (len(cheapest) - 1))
    cheaper = [
        tuple((1 - t / 8) * a + t / 8 * b for a, b in zip(cheapest, all_first))
        for t in range(8, 0, -1)
    ]
    return cheaper + published


def choose(held_out: ExitLogits,
           macs: Sequence[int]) -> Tuple[Tuple[float, ...], List[Any]]:
    """Pick the cheapest point of the sweep that is about as accurate.

    Returns:
        tuple: The thresholds chosen, and those of the whole sweep.
    """
    sweep = [
        solve_by_shares(held_out.logits, shares) for shares in sweep_shares()
    ]
    last = (held_out.logits[-1].argmax(1) == held_out.labels).float().mean()
    outcomes = [
        evaluate_thresholds(held_out.logits, held_out.labels, macs, thresholds)
        for thresholds in sweep
    ]
    good = [
        i for i, outcome in enumerate(outcomes)
        if outcome.accuracy >= float(last) - TOLERANCE
    ]
    # The dearest point runs nearly everything, so it is the last resort.
    best = min(good, key=lambda i: outcomes[i].macs) if good else -1
    return sweep[best], sweep


@torch.no_grad()
def really_stop(runner: Runner, thresholds: Sequence[float]) -> Dict[str, Any]:
    """Run the test images with and without leaving early, and time both."""
    model = unwrap_model(runner.model).eval()
    batches = list(runner.test_dataloader)
    seconds = {'all': float('inf'), 'early': float('inf')}
    for _ in range(2):
        for kind, value in (('all', (2., 2., 2.)), ('early', thresholds)):
            model.policy.set_thresholds(value)
            start = time.perf_counter()
            samples = [s for batch in batches for s in model.test_step(batch)]
            seconds[kind] = min(seconds[kind], time.perf_counter() - start)
    return dict(samples=samples, seconds=seconds)


def print_table(test: ExitLogits, macs: Sequence[int],
                dynamic: Outcome) -> None:
    """Print accuracy and cost of each exit and of leaving early."""
    table = Table(title=f'{len(test.labels):,} test images')
    for name in ('exit', 'top-1 (%)', 'MACs (M)', 'of the last', 'share (%)'):
        table.add_column(name, justify='left' if name == 'exit' else 'right')
    for k, logits in enumerate(test.logits):
        accuracy = (logits.argmax(1) == test.labels).float().mean().item()
        table.add_row(f'always exit {k}', f'{100 * accuracy:.2f}',
                      f'{macs[k] / 1e6:.2f}', f'{macs[k] / macs[-1]:.0%}', '')
    table.add_section()
    shares = ' / '.join(f'{100 * share:.0f}' for share in dynamic.shares)
    table.add_row('[bold]leaving early', f'[bold]{100 * dynamic.accuracy:.2f}',
                  f'[bold]{dynamic.macs / 1e6:.2f}',
                  f'[bold]{dynamic.macs / macs[-1]:.0%}', shares)
    console.print(table)


def spread(items: List[Any], count: int) -> List[Any]:
    """At most ``count`` items, evenly over the whole list."""
    if len(items) <= count:
        return items
    return [items[i * len(items) // count] for i in range(count)]


def draw(test: ExitLogits, macs: Sequence[int], sweep: List[Any],
         dynamic: Outcome, samples: List[Any], out: Path) -> None:
    """Draw accuracy against mean MACs, and easy and hard images."""
    outcomes = [
        evaluate_thresholds(test.logits, test.labels, macs, thresholds)
        for thresholds in sweep
    ]
    exits = [
        100 * (x.argmax(1) == test.labels).float().mean().item()
        for x in test.logits
    ]
    plot_accuracy_macs([
        Curve(f'leaving early ({len(sweep)} threshold settings)',
              [o.macs for o in outcomes], [100 * o.accuracy
                                           for o in outcomes]),
        Curve('always the same exit', macs, exits,
              [f'exit {k}' for k in range(len(macs))])
    ],
                       out / 'accuracy_macs.png',
                       title='Digits, test images; thresholds from the '
                       'validation images',
                       chosen=(dynamic.macs, 100 * dynamic.accuracy,
                               'chosen thresholds'))
    groups = {}
    for k, text in ((0, 'left at the first exit'), (len(macs) - 1,
                                                    'went to the last exit')):
        left = [s for s in samples if s.exit_index == k]
        groups[f'{len(left) / len(samples):.0%} of the images {text}'] = [
            GalleryImage(
                cv2.imread(s.img_path)[..., ::-1], str(int(s.gt_label)),
                str(int(s.pred_label)), s.exit_confidence)
            for s in spread(left, 20)
        ]
    plot_gallery(
        groups, out / 'gallery.png', title='Easy and hard test images')


def run(args: argparse.Namespace) -> None:
    """Run the four steps."""
    console.rule('1/4  data')
    make_data(args.data_root)
    console.rule('2/4  training')
    runner = train(args)
    model = unwrap_model(runner.model)
    macs = model.macs_per_exit((3, 64, 64))

    console.rule('3/4  thresholds from the validation images')
    held_out = collect_exit_logits(model, runner.val_dataloader, 'validation')
    thresholds, sweep = choose(held_out, macs)
    save_thresholds(args.work_dir / 'thresholds.json', thresholds)
    console.print('an image leaves where its confidence reaches '
                  f'{", ".join(f"{t:.3f}" for t in thresholds)} '
                  f'({args.work_dir / "thresholds.json"})')

    console.rule('4/4  test images')
    test = collect_exit_logits(model, runner.test_dataloader, 'test')
    dynamic = evaluate_thresholds(test.logits, test.labels, macs, thresholds)
    real = really_stop(runner, thresholds)
    print_table(test, macs, dynamic)
    draw(test, macs, sweep, dynamic, real['samples'], args.work_dir)
    seconds = real['seconds']
    console.print(
        f'really stopping took {seconds["early"]:.2f} s, all exits '
        f'{seconds["all"]:.2f} s ({seconds["early"] / seconds["all"]:.2f} of '
        f'the time; {torch.get_num_threads()} threads, torch '
        f'{torch.__version__}, {platform.machine()})')
    results = dict(
        thresholds=thresholds,
        accuracy=[(x.argmax(1) == test.labels).float().mean().item()
                  for x in test.logits],
        macs=macs,
        dynamic=dynamic._asdict(),
        seconds=seconds,
        torch=torch.__version__,
        mmengine=mmengine.__version__)
    (args.work_dir /
     'results.json').write_text(json.dumps(results, indent=2) + '\n')
    for name in ('accuracy_macs.png', 'gallery.png', 'results.json'):
        console.print(f'wrote {args.work_dir / name}')


def main() -> int:
    """Run the demo; expected errors are one line."""
    args = parse_args()
    try:
        run(args)
    except (InputError, OSError, ValueError) as error:
        console.print(f'error: {error}', style='red', markup=False)
        return 1
    except KeyboardInterrupt:
        console.print('stopped; the same command goes on from here')
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
