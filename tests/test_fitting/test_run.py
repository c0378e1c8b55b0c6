# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From images to a deployed model, and what may come between."""
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from mmengine.config import Config
from tiny import run_tool

import mmdynperceiver
from mmdynperceiver.cli.calibrate import ClassCalibration
from mmdynperceiver.cli.commands import main
from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.deploy import Runner
from mmdynperceiver.errors import InputError
from mmdynperceiver.fitting import measure
from mmdynperceiver.hosts import TimedScheduleHook
from .conftest import CLASSES, TINY


def arguments(options):
    """The same options as a command line."""
    words = ['fit', options['data']]
    for name, value in options.items():
        if name != 'data':
            words += [f'--{name.replace("_", "-")}'
                      ] + ([] if value is True else [str(value)])
    return words


@pytest.fixture
def no_report(monkeypatch):
    """Draw nothing, which takes half of the time."""
    monkeypatch.setattr(ClassCalibration, 'write_report',
                        lambda self, points, held_out: self.args.report)


def checkpoints(folder, kind='training'):
    return {
        path.name: path.stat().st_mtime_ns
        for path in (Path(folder) / kind).glob('epoch_*.pth')
    }


def test_the_result(fitted):
    options, result = fitted
    assert 0 <= result.accuracy <= 1 and 0 <= result.last_accuracy <= 1
    assert 0 < result.macs <= result.last_macs
    assert result.ms > 0 and result.last_ms > 0
    assert 0 <= result.early <= 1
    assert set(result.static) == {'accuracy', 'macs', 'ms', 'own_ms'}
    written = json.loads((Path(result.folder) / 'result.json').read_text())
    assert written['minutes'] > 0
    assert {
        k: written[k]
        for k in asdict(result)
    } == {
        **asdict(result), 'thresholds': list(result.thresholds)
    }
    page = Path(result.page).read_text()
    assert 'my model' in page


def test_the_model_is_deployed(fitted, data):
    options, result = fitted
    runner = Runner.load(result.exported, threads=1)
    assert runner.policy.thresholds == pytest.approx(result.thresholds)
    assert tuple(runner.manifest.classes) == CLASSES
    found = runner([str(data / 'bee/0.png')])[0]
    assert found.name in CLASSES
    point = OperatingPoint.load(Path(result.folder) / 'operating_point.json')
    budget = 0.7 * result.last_macs
    assert point.expected['macs'] <= budget
    assert point.thresholds == result.thresholds


def test_the_config_is_an_ordinary_one(fitted, tmp_path):
    options, result = fitted
    config = Config.fromfile(result.config)
    rates = config.optim_wrapper.paramwise_cfg.custom_keys
    from mmdynperceiver.hosts.build import build_model
    names = [name for name, _ in build_model(config).named_parameters()]
    for key in rates:
        assert any(key in name for name in names), key
    out = tmp_path / 'test.json'
    assert run_tool('test', result.config, result.checkpoint, '--work-dir',
                    tmp_path, '--out', out) is None
    metrics = json.loads(out.read_text())['metrics']
    assert metrics['dynamic/top1'] == pytest.approx(100 * result.accuracy)
    assert run_tool('train', result.config, '--work-dir', tmp_path / 'work',
                    '--cfg-options', 'train_cfg.max_epochs=1') is None


def test_another_goal_needs_no_other_training(fitted, no_report, capsys):
    options, result = fitted
    before = checkpoints(result.folder)
    other = {
        k: v
        for k, v in options.items() if k not in ('budget_macs', 'compare')
    }
    assert main([*arguments(other), '--quiet']) == 0
    text = capsys.readouterr().out
    assert 'accuracy' in text and 'left early' in text
    assert 'going on' not in text
    assert checkpoints(result.folder) == before
    point = OperatingPoint.load(Path(result.folder) / 'operating_point.json')
    assert 'min_accuracy' in point.solved_for
    written = json.loads((Path(result.folder) / 'result.json').read_text())
    assert written['last_accuracy'] == result.last_accuracy
    assert written['static'] is None


def test_another_fit_in_the_same_folder_is_refused(fitted, data, capsys):
    options, _ = fitted
    words = arguments(dict(options, batch_size=16, lr=0.5))
    with pytest.raises(
            SystemExit,
            match='holds another fit: batch_size is 16 and '
            'was 8; lr is 0.5 and was None') as stop:
        main(words)
    assert '--fresh' in stop.value.code and '\n' not in stop.value.code


def test_changed_images_are_refused(fitted, data):
    options, _ = fitted
    shutil.copy(data / 'ant/0.png', data / 'ant/new.png')
    try:
        with pytest.raises(InputError, match='the images have changed'):
            mmdynperceiver.fit(**options)
    finally:
        (data / 'ant/new.png').unlink()


def test_an_interrupted_run_goes_on(data, tmp_path, no_report, monkeypatch,
                                    capsys):
    options = dict(TINY, data=str(data), out=str(tmp_path / 'out'))
    stop_after = [2]
    steps = TimedScheduleHook.after_train_epoch

    def interrupt(self, runner):
        steps(self, runner)
        if runner.iter and runner.epoch + 1 == stop_after[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(TimedScheduleHook, 'after_train_epoch', interrupt)
    with pytest.raises(SystemExit) as stop:
        main(arguments(options))
    assert stop.value.code == 130
    assert 'the same command goes on' in capsys.readouterr().err
    assert 'epoch_1.pth' in checkpoints(options['out'])
    stop_after[0] = None
    assert main(arguments(options)) == 0
    text = ' '.join(capsys.readouterr().out.split())
    assert 'going on from' in text
    state = json.loads((tmp_path / 'out/fit.json').read_text())
    assert state['trained'] == dict(training='epoch_4.pth')
    # A checkpoint that has gone is not what the fit goes on with.
    (tmp_path / 'out/training/epoch_4.pth').unlink()
    assert main(arguments(options)) == 0
    assert 'trained already' not in capsys.readouterr().out
    assert 'epoch_4.pth' in checkpoints(options['out'])


def test_minutes_that_end_in_the_middle(data, tmp_path, no_report,
                                        monkeypatch):
    """The schedule ends with the time, and the model is finished."""
    monkeypatch.setattr(TimedScheduleHook, '_elapsed', lambda self: 1e9
                        if self.started else 0)
    monkeypatch.setattr(TimedScheduleHook, 'started', False, raising=False)
    step = TimedScheduleHook.before_train_iter
    rates = []

    def before_train_iter(self, runner, *args, **kwargs):
        step(self, runner, *args, **kwargs)
        self.started = runner.iter >= 2
        rates.append(runner.optim_wrapper.param_groups[0]['lr'])

    monkeypatch.setattr(TimedScheduleHook, 'before_train_iter',
                        before_train_iter)
    options = dict(TINY, data=str(data), out=str(tmp_path / 'out'))
    result = mmdynperceiver.fit(**options)
    assert rates[-1] == 0
    assert set(checkpoints(options['out'])) == {'epoch_2.pth'}
    assert Path(result.exported, 'manifest.json').is_file()
    state = json.loads((tmp_path / 'out/fit.json').read_text())
    assert state['trained'] == dict(training='epoch_2.pth')


@pytest.mark.parametrize('change, message', [
    (dict(out='file/out'), "cannot write into the folder 'file/out'"),
    (dict(data='nothing'), "no folder or CSV file 'nothing'"),
    (dict(budget_macs='1k'),
     'no network here meets --budget-macs 1k: the nearest'),
    (dict(arch='resnet17'), "unknown arch: got 'resnet17'"),
])
def test_bad_input_is_one_line_before_training(change, message, data, tmp_path,
                                               monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('')
    options = dict(TINY, data=str(data), out='out')
    with pytest.raises(SystemExit, match=f'^error: .*{message}') as stop:
        main(arguments({**options, **change}))
    assert '\n' not in stop.value.code
    assert not list(tmp_path.rglob('*.pth'))


def test_another_folder_is_not_replaced(data, tmp_path):
    for name in ('report', 'exported'):
        out = tmp_path / name / 'out'
        (out / name).mkdir(parents=True)
        (out / name / 'mine.txt').write_text('mine')
        with pytest.raises((InputError, OSError)):
            mmdynperceiver.fit(**dict(TINY, data=str(data), out=str(out)))
        assert (out / name / 'mine.txt').read_text() == 'mine'


def test_without_what_exporting_needs(data, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match='onnx and onnxruntime.*pip install'):
        mmdynperceiver.fit(str(data), str(tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()
