# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From images to a deployed model: the steps, one after the other."""
import hashlib
import io
import json
import os
import time
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.config import Config

from ..benchmark.latency import describe_machine
from ..calibration.operating_points import outcomes_of
from ..cli import calibrate, common, export
from ..cli.console import say, say_step, warn
from ..cli.training import forget_checkpoints, train_or_resume
from ..core import OperatingPoint
from ..deploy import Manifest
from ..errors import InputError, first_few
from ..hosts.device import use_device
from ..io.atomic import unfinished, write_json
from ..report import check_report_folder
from .config import make_config
from .data import (Checked, Labelled, check_images, find_images, loose_images,
                   split_images, write_lists)
from .judge import Judged, judge, judge_twin
from .measure import check_packages
from .options import FitOptions
from .plan import choose_plan
from .result import FitResult, doubts, print_result

__all__ = ['FitResult', 'fit_model']

# Of the time, what is left to plan with even if checking images took longer.
LEAST_LEFT = 0.3
# Without a goal: about as accurate as the last exit. So much may be lost.
TOLERANCE = 0.005


def fit_model(options: FitOptions) -> FitResult:
    """Check, choose, train, calibrate, export, measure and report.

    The same options go on with what an interrupted call has done.

    Raises:
        InputError: If the data or an option do not fit.
    """
    return _Fit(options).run()


class _Fit:
    """One fit, in its folder."""

    def __init__(self, options: FitOptions) -> None:
        self.options = options
        self.folder = Path(options.out)
        self.start = time.monotonic()
        check_packages()
        self.device = use_device(options.device)
        common.check_writable_folder(options.out)
        check_report_folder(self.folder / 'report')
        # A report takes its heading from the name of the config.
        self.config = self.folder / f'{self.folder.resolve().name}.py'
        self.static = self.folder / 'static_twin.py'
        self.exported = self.folder / 'exported'
        if self.exported.exists():
            # What is replaced must be an export.
            Manifest.read(self.exported)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self.state: Dict[str, Any] = {}

    def run(self) -> FitResult:
        """All steps."""
        say_step('1/5  images')
        self._open()
        say_step('2/5  training')
        trained = self._train('training')
        say_step('3/5  thresholds')
        calibration = self._calibrate(trained)
        say_step('4/5  export')
        self._export(self.config, self.folder / 'model.pth', self.exported)
        say_step('5/5  what it is worth')
        assert calibration.test_data is not None
        images = list(
            zip(calibration.test_data.paths, calibration.test_data.labels))
        judged = judge(self.exported, images, self.options.threads)
        static = self._compare(images) if self.options.compare else None
        return self._finish(calibration, judged, static)

    def _open(self) -> None:
        """Take what an earlier call has chosen, or choose."""
        images = find_images(self.options.data)
        identity = dict(
            options=self.options.of_training(), data=_fingerprint(images))
        path = self.folder / 'fit.json'
        if self.options.fresh:
            path.unlink(missing_ok=True)
            for name in ('training', 'static'):
                forget_checkpoints(self.folder / name)
        if path.exists():
            self.state = _read_state(path, identity)
            say(f'going on in {self.folder}')
        else:
            self._choose(check_images(images), identity)
        for what, value, why in self.state['plan']['reasons']:
            say(f'  {what:14} {value:24} {why}')

    def _choose(self, checked: Checked, identity: Dict[str, Any]) -> None:
        """Split the images and choose everything; write lists and configs."""
        say_what_was_found(checked, loose_images(self.options.data))
        parts = split_images(checked.images, self.options.seed)
        classes = sorted({image.label for image in parts['train']})
        say(', '.join(f'{len(images):,} {name}'
                      for name, images in parts.items()) +
            f' images of {len(classes)} classes')
        seconds = 60 * self.options.minutes
        left = max(seconds - self._spent(), LEAST_LEFT * seconds)
        counts = {name: len(images) for name, images in parts.items()}
        plan = choose_plan(self.options, counts, len(classes), checked.side,
                           left)
        write_lists(os.fspath(self.folder / 'data'), parts, classes)
        for name, path in (('training', self.config), ('static', self.static)):
            make_config(plan, self.options, classes, checked.side,
                        os.fspath(self.folder / name),
                        name == 'static').dump(os.fspath(path))
        write_json(
            self.folder / 'latency.json',
            dict(
                exits=[
                    dict(exit=k, median_ms=ms)
                    for k, ms in enumerate(plan.latencies)
                ],
                model=plan.describes,
                batch_size=1,
                machine=describe_machine(torch.device('cpu'),
                                         ['onnxruntime'])))
        self.state = dict(identity, plan=plan.as_dict(), trained={})
        self._save()

    def _save(self) -> None:
        """Keep what was chosen and what is done."""
        write_json(self.folder / 'fit.json', self.state)

    def _spent(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self.start

    def _train(self, name: str) -> Path:
        """Train, or take what is trained; the checkpoint."""
        done = self.state['trained']
        if name in done:
            checkpoint = self.folder / name / done[name]
            if checkpoint.exists():
                say(f'{checkpoint} is trained already; --fresh trains anew')
                return checkpoint
        config = self.static if name == 'static' else self.config
        runner = train_or_resume(
            Config.fromfile(config), say, ('train', 'val'))
        done[name] = f'epoch_{runner.epoch}.pth'
        self._save()
        return self.folder / name / done[name]

    def _calibrate(self, checkpoint: Path) -> calibrate.ClassCalibration:
        """Solve thresholds, and write the model and the report."""
        out, goal = self.folder, _goal(self.options)
        args = calibrate.parse_args([
            os.fspath(self.config),
            os.fspath(checkpoint), '--latency-table',
            os.fspath(out / 'latency.json'), '--test', '--out',
            os.fspath(out / 'operating_point.json'), '--embed',
            os.fspath(out / 'model.pth'), '--report',
            os.fspath(out / 'report'), '--device', self.device,
            *(goal or ['--min-accuracy', '0%'])
        ])
        config = common.load_config(args)
        calibrate.check_args(args)
        found = calibrate.ClassCalibration(args, config, 'val', 'test')
        if not goal:
            last = found.held_out[0].outcomes().static()[-1].utility
            args.min_utility = str(max(0., last - TOLERANCE))
        found.run()
        return found

    def _export(self, config: Path, checkpoint: Path, target: Path) -> None:
        """Export; an earlier one is replaced when the new one is whole."""
        with unfinished(os.fspath(self.folder)) as work:
            new = os.path.join(work, 'exported')
            with redirect_stdout(io.StringIO()) as text:
                export.main([os.fspath(config), os.fspath(checkpoint), new])
            if target.exists():
                os.rename(target, os.path.join(work, 'old'))
            os.rename(new, target)
        say(text.getvalue().replace(new, os.fspath(target)).strip())

    def _compare(self, images: List[Tuple[str, int]]) -> Dict[str, float]:
        """Train, export and judge the static twin."""
        say_step('the static twin')
        checkpoint = self._train('static')
        target = self.folder / 'static' / 'exported'
        self._export(self.static, checkpoint, target)
        return judge_twin(target, self.exported, images, self.options.threads)

    def _finish(self, calibration: calibrate.ClassCalibration, judged: Judged,
                static: Optional[Dict[str, float]]) -> FitResult:
        """Put the result together, write and print it."""
        point = OperatingPoint.load(self.folder / 'operating_point.json')
        exits = calibration.test_exits
        assert exits is not None and exits.labels is not None
        outcomes = outcomes_of(point, exits)
        last, brought = outcomes.static()[-1], point.expected['test']
        result = FitResult(
            folder=os.fspath(self.folder),
            config=os.fspath(self.config),
            checkpoint=os.fspath(self.folder / 'model.pth'),
            exported=os.fspath(self.exported),
            page=os.fspath(self.folder / 'report/index.html'),
            thresholds=tuple(point.thresholds),
            accuracy=brought['accuracy'],
            last_accuracy=last.utility,
            macs=brought['macs'],
            last_macs=last.cost,
            ms=judged.ms,
            last_ms=judged.last_ms,
            early=1 - brought['shares'][-1],
            static=static)
        write_json(self.folder / 'result.json',
                   dict(asdict(result), minutes=self._spent() / 60))
        low, high = brought['accuracy_interval']
        print_result(result, (high - low) / 2, judged)
        labels = Counter(exits.labels.tolist())
        largest = max(labels.values()) / labels.total()
        for doubt in doubts(result, (high - low) / 2, largest):
            warn(doubt)
        return result


def _goal(options: FitOptions) -> List[str]:
    """The options of ``calibrate`` that say what to solve for, if any."""
    for name, word in (('budget_ms', '--budget-ms'), ('budget_macs',
                                                      '--budget-macs'),
                       ('min_accuracy', '--min-accuracy'), ('max_risk',
                                                            '--max-risk')):
        value = getattr(options, name)
        if value is not None:
            return [word, value]
    return []


def _fingerprint(images: Sequence[Labelled]) -> str:
    """What changes with the images: their paths, labels, sizes and times."""
    digest = hashlib.sha256()
    for image in images:
        try:
            status = os.stat(image.path)
            about = status.st_size, status.st_mtime_ns
        except OSError:
            about = 0, 0
        digest.update(repr((*image, about)).encode('utf-8', 'surrogateescape'))
    return digest.hexdigest()


def _read_state(path: Path, identity: Dict[str, Any]) -> Dict[str, Any]:
    """What an earlier call has chosen.

    Raises:
        InputError: If it was called with other images or options.
    """
    try:
        state = json.loads(path.read_text(encoding='utf-8'))
        options, data = state['options'], state['data']
        state['plan']['reasons'], state['trained']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'{os.fspath(path)!r} is no file of an earlier fit: '
                         f'choose another --out') from error
    other = [
        f'{name} is {value!r} and was {options.get(name)!r}'
        for name, value in identity['options'].items()
        if options.get(name) != value
    ]
    if data != identity['data']:
        other.append('the images have changed')
    if other:
        raise InputError(
            f'{os.fspath(path.parent)!r} holds another fit: '
            f'{"; ".join(other)}. Choose another --out, or begin anew there '
            f'with --fresh')
    return state


def say_what_was_found(checked: Checked, loose: Sequence[str] = ()) -> None:
    """Print how many images of each class there are, and what is wrong, of
    those in no class too."""
    counts = Counter(image.label for image in checked.images)
    listed = [f'{label} {count:,}' for label, count in sorted(counts.items())]
    say(f'{counts.total():,} images of {len(counts)} classes: '
        f'{first_few(listed, 12, str)}')
    broken = [f'{entry.path} ({entry.reason})' for entry in checked.broken]
    for what, found in (
        ('cannot be decoded', broken), ('have the content of another one',
                                        checked.twice),
        ('have the content of one of another class, which is left out, too',
         checked.contradictory), ('lie beside the class folders', loose)):
        if found:
            warn(f'{len(found)} images are left out, which {what}: '
                 f'{first_few(found, 3, str)}')
