# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What is chosen, by data, budget and time, and with which reason."""
from types import SimpleNamespace

import pytest
import torch

from mmdynperceiver.errors import InputError
from mmdynperceiver.fitting import measure
from mmdynperceiver.fitting import plan as planning
from mmdynperceiver.fitting.options import FitOptions
from mmdynperceiver.fitting.plan import choose_plan


class FakeSpeeds:
    """A network whose cost grows with the pixels."""

    speed = 100.

    def __init__(self, plan, num_classes, threads):
        self.model = torch.nn.Identity()
        self.model.exit_parts = lambda: ()

    def spent(self):
        return 12.

    def seconds_behind(self, size, counts):
        return size / 10 + counts['val'] / 100 + counts['test'] / 50

    def macs(self, size):
        return tuple(share * size**2 * 1000 for share in (0.4, 0.8, 1))

    def milliseconds(self, size):
        return [count / 1e7 for count in self.macs(size)]

    def images_per_second(self, size):
        return self.speed * (96 / size)**2


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    monkeypatch.setattr(planning, 'Speeds', FakeSpeeds)
    monkeypatch.setattr(planning, 'describe_model', dict)
    monkeypatch.setattr(planning, 'arch_of_weights',
                        lambda path: 'torchvision.mobilenet_v2')


def choose(side=300., num_train=2000, seconds=600., **options):
    counts = dict(train=num_train, val=200, test=300)
    return choose_plan(
        FitOptions('data', 'out', **options), counts, 5, side, seconds)


@pytest.mark.parametrize('side, weights, size', [
    (32, None, 64),
    (32, 'file.pth', 96),
    (100, None, 128),
    (1000, None, 224),
])
def test_the_size_follows_the_images(side, weights, size):
    found = choose(side, seconds=1e5, backbone_weights=weights)
    assert found.image_size == size
    assert found.latencies[-1] == pytest.approx(size**2 / 1e4)


def test_a_budget_makes_images_smaller():
    # Of 224 pixels, the last exit takes 50M, and 60 % of it on average.
    assert choose(seconds=1e5, budget_macs='31M').image_size == 224
    found = choose(seconds=1e5, budget_macs='16M')
    assert found.image_size == 160
    assert any('budget' in reason for *_, reason in found.reasons)
    assert choose(seconds=1e5, budget_ms='1.6').image_size == 160
    assert choose(seconds=1e5, budget_ms='50%').image_size <= 224


@pytest.mark.parametrize('options, nearest', [
    (dict(budget_macs='1M'), 'images of 64 pixels, takes 1.638M MACs'),
    (dict(budget_ms='0.1'), 'takes 0.164 ms .* 0.410 ms'),
    (dict(budget_macs='1M', image_size=128), 'of 128 pixels, takes 6.554M'),
])
def test_an_impossible_budget_names_the_nearest(options, nearest):
    with pytest.raises(InputError, match=f'no network here meets.*{nearest}'):
        choose(**options)


def test_little_time_makes_images_smaller():
    found = choose(seconds=150., backbone_weights='file.pth')
    assert found.image_size == 128
    assert any('in time' in reason for *_, reason in found.reasons)
    # They are never so small that nothing can be seen.
    found = choose(seconds=1., backbone_weights='file.pth')
    assert found.image_size == 96


def test_a_run_takes_the_time_and_no_more_passes_than_help():
    found = choose(side=96, seconds=100.)
    seen = found.epochs * found.samples
    assert seen == pytest.approx(100 * 60 * found.minutes, rel=0.1)
    assert found.samples % found.batch_size == 0
    found = choose(side=96, seconds=1e5)
    assert found.epochs * found.samples == pytest.approx(60 * 2000, rel=0.05)
    found = choose(side=96, seconds=1e5, passes=2)
    assert found.epochs * found.samples == pytest.approx(2 * 2000, rel=0.1)


def test_time_is_kept_for_what_is_behind_the_training():
    found = choose(side=96, seconds=180.)
    # 5 % besides, 12 s of choosing, 9.6 + 2 + 6 s behind.
    kept = 0.05 * 180 + 12 + 17.6
    assert found.minutes == pytest.approx((180 - kept) / 60)
    seen = found.epochs * found.samples
    assert seen == pytest.approx((180 - kept) * 100, rel=0.05)
    assert ('training', '2.4 minutes', '18 s are kept for what follows') \
        in found.reasons
    # Some of it is training in any case.
    assert choose(side=96, seconds=20.).minutes == pytest.approx(5 / 60)


def test_what_is_behind_the_training_is_as_measured(monkeypatch):
    now = dict(wall=0., own=0.)
    clocks = SimpleNamespace(
        monotonic=lambda: now['wall'], process_time=lambda: now['own'])
    monkeypatch.setattr(measure, 'time', clocks)
    plan = planning.Plan(
        backbone=dict(
            type='DynPerceiverBackbone',
            arch='resnet18',
            width=0.125,
            num_latents=8),
        batch_size=8)
    speeds = measure.Speeds(plan, 3, None)
    speeds._speeds[64], speeds._exporting[64] = 50., 7.
    speeds._milliseconds[64] = [1., 5.]
    now.update(wall=30., own=10.)
    # Others have two thirds of the machine.
    expected = 7 + 3 * measure.REPORT + 400 / 50 + 4 * 200 * 0.005
    counts = dict(train=900, val=50, test=300)
    assert speeds.spent() == 30
    assert speeds.seconds_behind(64, counts) == pytest.approx(expected)
    now.update(own=60.)  # of several threads
    assert speeds.seconds_behind(64, dict(
        counts, test=100)) == pytest.approx(7 + measure.REPORT + 200 / 50 +
                                            4 * 100 * 0.005)


def test_what_is_said_prevails():
    found = choose(
        image_size=48, batch_size=5, lr=0.1, num_latents=16, arch='resnet50')
    assert (found.image_size, found.batch_size, found.lr) == (48, 5, 0.1)
    assert found.backbone['num_latents'] == 16
    assert found.static['arch'] == found.backbone['arch'] == 'resnet50'
    said = {what for what, _, reason in found.reasons if 'you said' in reason}
    assert said == {
        'network', 'image size', 'batch', 'learning rate', 'latents'
    }


def test_pretrained_weights_learn_slower_in_both_networks():
    found = choose(backbone_weights='file.pth')
    assert found.branch_lr < 1
    for backbone in (found.backbone, found.static):
        assert backbone['backbone_weights'].endswith('/file.pth')
        assert backbone['arch'] == 'torchvision.mobilenet_v2'


@pytest.mark.parametrize('options, message', [
    (dict(budget_ms=5, min_accuracy=0.9), 'budget_ms and min_accuracy'),
    (dict(minutes=0), 'minutes must be above 0'),
    (dict(budget_ms='five'), "budget_ms must be a positive .*'five'"),
    (dict(min_accuracy=95), "share such as 0.95, or 95%, got '95'"),
    (dict(max_risk='1'), 'max_risk must be a share above 0'),
    (dict(batch_size=1), 'batch norms need more'),
    (dict(arch='resnet18', backbone_weights='a'), 'leave out arch'),
])
def test_options_that_do_not_fit(options, message):
    with pytest.raises(InputError, match=message):
        FitOptions('data', 'out', **options)


def test_results_among_the_images():
    for out in ('data/out', 'data', 'data/../data'):
        with pytest.raises(InputError, match='choose another --out'):
            FitOptions('data', out)
    FitOptions('data', 'data2')


def test_too_short_a_time_is_told_before():
    given = dict(num_train=40_000, seconds=180., minutes=3, image_size=96)
    why, = (row[2] for row in choose(**given).reasons if row[0] == 'passes')
    # 141 s of 400 s, and 5 % besides.
    assert why.endswith('; --minutes 8 would show all images once')
    found = choose(**given, passes=0.1)
    assert not any('would show' in row[2] for row in found.reasons)
