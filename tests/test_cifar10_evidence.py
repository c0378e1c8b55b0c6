# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Six networks of one trunk, and the field: what is run, once, and drawn."""
import json
import sys

import pytest
from PIL import Image

pytest.importorskip('mmpretrain')

from mmengine.config import Config, DictAction  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmpretrain.models import MobileNetV2  # noqa: E402
from mmpretrain.registry import MODELS  # noqa: E402

import projects.cifar10_evidence.__main__ as driver  # noqa: E402
import projects.cifar10_evidence.field.__main__ as field  # noqa: E402
from projects.cifar10_evidence import ShallowMobileNetV2  # noqa: E402
from projects.cifar10_evidence.plot import outcomes  # noqa: E402

EXITS = {
    'static': 1,
    'shallow': 1,
    'multi-exit': 3,
    'dyn-perceiver': 4,
    'latency-first': 3,
    'latency-first-late': 3
}
CURVE = '''series,data,macs,accuracy,share_0,share_1,share_2
search,held-out,2e6,0.9,0.5,0.5,0.0
search,test,2e6,0.8,0.5,0.5,0.0
exit 0,test,1e6,0.7,1.0,0.0,0.0
exit 1,test,2e6,0.78,0.0,1.0,0.0
exit 2,test,3e6,0.85,0.0,0.0,1.0
'''


def test_blocks_that_stay_have_the_weights_of_the_whole():
    whole = MobileNetV2().state_dict()
    shallow = ShallowMobileNetV2().state_dict()
    assert len(shallow) < len(whole)
    assert all(whole[name].shape == value.shape
               for name, value in shallow.items())


@pytest.mark.parametrize('network', driver.NETWORKS)
def test_configs(network):
    path = driver.HERE / f'{network}.py'
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        config.model.data_preprocessor = config.data_preprocessor
        model = MODELS.build(config.model)
    assert model.policy.num_exits == EXITS[network]
    assert config.train_cfg.max_epochs == 10
    assert config.train_dataloader.dataset.pipeline[3].scale == 96


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """What is run; each tool leaves what it is there for."""
    found = []

    def run(command):
        tool, *given = map(str, command)
        found.append([tool.rpartition('/')[2], *given])

        def option(name):
            return given[given.index(name) + 1]

        if tool.endswith('mobilenetv2_to_mmpretrain.py'):
            (tmp_path / 'work/mobilenet_v2.pth').touch()
        elif tool == 'tools/train.py':
            folder = tmp_path / 'work' / option('--work-dir').rpartition(
                '/')[2]
            folder.mkdir()
            (folder / 'epoch_2.pth').touch()
        elif '--report' in given:
            report = tmp_path / 'work' / option('--work-dir').rpartition(
                '/')[2] / 'report'
            report.mkdir()
            (report / 'curve.csv').write_text(CURVE)
        elif tool == 'tools/calibrate.py':
            (tmp_path / 'work/hold_out_train_7.txt').touch()
        elif tool == 'tools/test.py':
            with open(option('--out'), 'w') as file:
                metrics = {'dynamic/top1': 75., 'dynamic/macs': 2e6}
                json.dump(dict(metrics=metrics), file)
        else:
            rows = [
                dict(
                    name=name,
                    mode='onnxruntime',
                    exits=[dict(median_ms=k + 1.) for k in range(count)])
                for name, count in (('static', 1), ('latency-first', 3),
                                    ('msdnet', 3))
            ]
            with open(option('--out'), 'w') as file:
                json.dump(dict(compared=rows), file)

    monkeypatch.setattr(driver, '_run', run)
    monkeypatch.setattr(sys, 'argv', [
        'x', '--data', 'data', '--weights', 'w.pth', '--work-dir',
        str(tmp_path / 'work'), '--networks', 'static', 'latency-first',
        '--seeds', '0', '1', '--epochs', '2', '--left-out', '7', '--held-out',
        '5', '--size', '64'
    ])
    return found


def test_everything_is_done_once(commands, tmp_path, capsys):
    driver.main()
    # 75 % by thresholds: half of the images at 1 ms, half at 2 ms.
    printed = capsys.readouterr().out
    assert '| static |  | 75.0 ± 0.0 | 1.00 |' in printed
    assert '| latency-first | 0 | 70.0 ± 0.0 | 1.00 |' in printed
    assert '|  | 2 | 85.0 ± 0.0 | 3.00 |' in printed
    assert '| network | onnxruntime, 75.0 % | onnxruntime, 74.0 % |' in printed
    assert '| latency-first | 1.50 | 1.50 |' in printed
    assert [command[0] for command in commands] == [
        'mobilenetv2_to_mmpretrain.py', 'calibrate.py',
        *['train.py', 'test.py', 'train.py', 'calibrate.py'] * 2,
        'benchmark.py'
    ]
    train = commands[2]
    options = train[train.index('--cfg-options') + 1:]
    config = Config.fromfile(train[1])
    config.merge_from_dict(
        dict((key, DictAction._parse_int_float_bool(value))
             for key, value in (option.split('=') for option in options)))
    assert config.train_dataloader.dataset.pipeline[3].scale == 64
    assert config.test_dataloader.dataset.pipeline[1].scale == 64
    assert config.train_dataloader.dataset.exclude.endswith('_7.txt')
    assert config.model.backbone.arch.init_cfg.checkpoint.endswith(
        'work/mobilenet_v2.pth')
    picture = tmp_path / 'work/accuracy_ms.png'
    assert Image.open(picture).format == 'PNG'
    assert [point['top1']
            for point in outcomes(tmp_path / 'work/static-1')] == [75.]
    assert [
        point['top1'] for point in outcomes(tmp_path / 'work/latency-first-0')
    ] == pytest.approx([70, 80, 85])
    commands.clear()
    picture.unlink()
    driver.main()
    assert commands == [] and picture.exists()


def test_networks_of_the_field_cost_about_the_same():
    macs = {}
    for network in field.NETWORKS:
        config = Config.fromfile(field.FieldExperiment.here / f'{network}.py')
        assert config.train_cfg.max_epochs == 10
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            macs[network] = MODELS.build(config.model).macs_per_exit(
                (3, 32, 32))
    assert {n
            for n, found in macs.items()
            if len(found) == 1} == set(field.ONE_EXIT)
    wide, narrow = macs['static-wide'][0], macs['static-narrow'][0]
    for network in set(field.NETWORKS) - set(field.ONE_EXIT):
        assert macs[network][0] < narrow < macs[network][-1] < wide


def test_the_field_is_trained_and_drawn(commands, tmp_path):
    work = tmp_path / 'work'
    words = [
        '--data', 'data', '--work-dir',
        str(work), '--networks', 'static', 'conv-aig', 'msdnet',
        'dyn-perceiver-imta', '--seeds', '0', '1', '--epochs', '2',
        '--left-out', '7', '--held-out', '5'
    ]
    field.main(words)
    assert [command[0] for command in commands] == [
        'calibrate.py', *[
            'train.py', 'test.py', 'train.py', 'test.py',
            *['train.py', 'calibrate.py'] * 2
        ] * 2, 'benchmark.py'
    ]
    assert commands[5][1].endswith('field/msdnet.py')
    timed = [word for word in commands[-1] if word.endswith('.py')]
    assert [word.rpartition('/')[2] for word in timed] == [
        'benchmark.py', 'static.py', 'msdnet.py', 'dyn-perceiver-imta.py'
    ]
    assert Image.open(work / 'families.png').format == 'PNG'
    lines = (work / 'families.csv').read_text().splitlines()
    assert lines == [
        'name,of,cost,top1,deviation',
        'static,MACs (M),2.0,75.0,0.0',
        'msdnet,MACs (M),1.0,70.0,0.0',
        'msdnet,MACs (M),2.0,80.0,0.0',
        'msdnet,MACs (M),3.0,85.0,0.0',
        'conv-aig,MACs (M),2.0,75.0,0.0',
        'static,onnxruntime,1.0,75.0,0.0',
        'msdnet,onnxruntime,1.0,70.0,0.0',
        'msdnet,onnxruntime,1.5,80.0,0.0',
        'msdnet,onnxruntime,3.0,85.0,0.0',
    ]
    commands.clear()
    field.main(words)
    assert commands == []
