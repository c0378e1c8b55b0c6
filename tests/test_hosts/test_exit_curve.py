# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The picture of each validation, through mmengine's visualizer."""
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from PIL import Image
from torch import nn

from mmdynperceiver.core import ExitPolicy
from mmdynperceiver.hosts.exit_curve import ExitCurveHook, _answers, _curve

COUNT = itertools.count()
NUM_EXITS, NUM_CLASSES, SAMPLES = 3, 4, 40
METRICS = {
    **{
        f'exit{k}/top1': 50. + 10 * k
        for k in range(NUM_EXITS)
    },
    **{
        f'exit{k}/macs': 1e6 * (k + 1)
        for k in range(NUM_EXITS)
    }, 'dynamic/top1': 65.,
    'dynamic/macs': 1.5e6
}


def outputs():
    """Exits of which each is right more often, and surer where it is."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(SAMPLES) % NUM_CLASSES
    logits = torch.randn(NUM_EXITS, SAMPLES, NUM_CLASSES, generator=generator)
    logits += 2 * nn.functional.one_hot(labels) * torch.arange(
        1, NUM_EXITS + 1)[:, None, None]
    return [
        BaseDataElement(exit_logits=logits[:, i], gt_label=labels[i:i + 1])
        for i in range(SAMPLES)
    ]


@pytest.fixture
def validate(tmp_path):
    """Run a hook over a validation; the folder with what was written."""

    def run(metrics=METRICS,
            samples=None,
            backend='LocalVisBackend',
            times=1,
            **hook):
        number = next(COUNT)
        folder = tmp_path / str(number)
        model = nn.Module()
        model.policy = ExitPolicy(NUM_EXITS)
        if 'thresholds' in hook:
            model.policy.set_thresholds(hook.pop('thresholds'))
        visualizer = Visualizer(
            f'exit_curve{number}',
            vis_backends=[dict(type=backend, save_dir=str(folder))])
        visualizer.add_config(Config(dict(work_dir=str(folder))))
        samples = outputs() if samples is None else samples
        runner = SimpleNamespace(
            model=model,
            visualizer=visualizer,
            epoch=0,
            val_dataloader=SimpleNamespace(dataset=range(SAMPLES)))
        made = ExitCurveHook(**hook)
        for _ in range(times):
            runner.epoch += 1
            made.before_val_epoch(runner)
            for start in range(0, SAMPLES, 16):
                made.after_val_iter(
                    runner, 0, outputs=samples[start:start + 16])
            made.after_val_epoch(runner, metrics)
        visualizer.close()
        return folder

    return run


def pictures(folder):
    return {path.name: path for path in folder.rglob('*.png')}


def blue(path):
    """How many pixels the curve of leaving early has."""
    pixels = np.array(Image.open(path), int)
    return (abs(pixels - (0x00, 0x72, 0xb2)).max(-1) < 40).sum()


def test_a_picture_of_each_validation(validate):
    found = pictures(validate(times=3, interval=2))
    assert sorted(found) == ['accuracy_macs_1.png', 'accuracy_macs_3.png']
    marked = pictures(validate(thresholds=(0.9, 0.5)))['accuracy_macs_1.png']
    plain = found['accuracy_macs_1.png']
    assert blue(plain) > 300
    # The point of the thresholds has a line in the legend.
    assert Image.open(marked).height > Image.open(plain).height


def test_the_curve_is_that_of_its_thresholds():
    model = nn.Module()
    model.policy = ExitPolicy(NUM_EXITS, temperature=(2., 1., 1.))
    answers = _answers(model, outputs())
    curve = _curve(answers, (1e6, 2e6, 3e6))
    logits = torch.stack([s.exit_logits for s in outputs()], 1)
    right = logits.argmax(-1) == torch.arange(SAMPLES) % NUM_CLASSES
    means = right.double().mean(1)
    assert curve[0] == (1e6, pytest.approx(100 * means[0].item()))
    assert curve[-1] == (3e6, pytest.approx(100 * means[2].item()))
    assert len(set(curve)) > 10 and curve == sorted(curve)
    # Whoever is sure is right more often: better than by chance in between.
    middle = [y for x, y in curve if 1.8e6 < x < 2.2e6]
    assert min(middle) > 100 * means[:2].mean()


def test_exits_of_a_detector_and_of_a_network_that_has_diverged(validate):
    """No classes, or no numbers: the exits alone."""
    detector = {
        name.replace('top1', 'bbox_mAP'):
        value / 100 if 'top1' in name else value
        for name, value in METRICS.items()
    }
    no_labels = [BaseDataElement(exit_logits=torch.zeros(3, 1))] * SAMPLES
    nan = outputs()
    nan[3].exit_logits[1] = float('nan')
    for given in (dict(metrics=detector,
                       samples=no_labels), dict(samples=nan)):
        found = pictures(validate(**given))
        # The exits are the first series now: points, and no curve.
        assert 50 < blue(found['accuracy_macs_1.png']) < 1500


def test_nothing_to_draw(validate):
    assert not pictures(validate(metrics={'exit0/top1': 50.}))
    assert not pictures(validate(metrics={}, samples=[]))
    with pytest.raises(ValueError, match='positive whole number, got 0'):
        ExitCurveHook(interval=0)


def test_tensorboard(validate):
    loader = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator')
    folder = validate(backend='TensorboardVisBackend')
    events = loader.EventAccumulator(str(folder), {'images': 0}).Reload()
    shown, = events.Images('accuracy_macs')
    assert shown.step == 1 and (shown.width, shown.height) > (600, 400)


def test_mlflow_keeps_files(validate, monkeypatch, tmp_path):
    pytest.importorskip('mlflow')
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    monkeypatch.chdir(tmp_path)
    validate(backend='MLflowVisBackend')
    assert list(pictures(tmp_path)) == ['accuracy_macs_1.png']
