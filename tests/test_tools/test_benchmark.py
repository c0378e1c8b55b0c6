# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image


@pytest.fixture
def drawn(monkeypatch):
    """For each picture, the rows in it and the dots that it shows."""
    from mmdynperceiver import report
    draw, pictures = report.plot_accuracy_latency, []

    def record(rows, path):
        axes, = draw(rows, path).axes
        dots = [
            line.get_xydata().tolist() for line in axes.lines
            if line.get_marker() in 'os'
        ]
        pictures.append(([row['name'] for row in rows], dots))
        assert Image.open(path).format == 'PNG'

    monkeypatch.setattr(report, 'plot_accuracy_latency', record)
    return pictures


def dots_of(row):
    """What a picture shows of the exits: milliseconds of an image, top-1."""
    return [[pytest.approx(found['median_ms'] / row['batch_size']), top1]
            for found, top1 in zip(row['exits'], row['top1']['exits'])]


@pytest.mark.parametrize('options', [
    ['--size', '40', '32'],
    [],
    ['--images', 'test', '--batch-size', '2'],
])
def test_table(config, tool, trained, tmp_path, options):
    out = tmp_path / 'latency.json'
    output, error = tool('benchmark', config(), trained / 'epoch_1.pth',
                         '--runs', 2, '--warmup', 0, '--out', out, *options)
    assert error is None, error
    assert 'median (ms)' in output
    result = json.loads(out.read_text())
    assert result['shape'] == [3, 40 if '40' in options else 32, 32]
    assert result['model']['num_exits'] == 4 == len(result['exits'])
    assert result['machine']['device'] and result['machine']['torch']
    for row in result['exits']:
        assert 0 < row['median_ms'] <= row['p90_ms'] and row['macs'] > 0


def test_side_by_side(config, tool, trained, tmp_path, drawn):
    """Two configs and a network of torchvision, modes and batch sizes."""
    out, plot = tmp_path / 'latency.json', tmp_path / 'latency.png'
    static = config("model = dict(backbone=dict(_delete_=True, "
                    "type='ConvBackbone', arch='resnet18', width=0.25), "
                    "head=dict(num_classes=3, kinds=('x', )))\n")
    output, error = tool('benchmark', config(), trained / 'epoch_1.pth',
                         '--against', static, '--against',
                         'torchvision:mobilenet_v3_small', '--base',
                         'torchvision:mobilenet_v3_small', '--modes', 'eager',
                         'prepared', '--images', 'test', '--batch-size', 1, 3,
                         '--runs', 6, '--warmup', 1, '--shares', 0.5, 0.25,
                         0.1, 0.15, '--train-batch-size', 2, '--out', out,
                         '--plot', plot)
    assert error is None, error
    assert 'of the ideal' in output and 'training step of 2' in output
    result = json.loads(out.read_text())
    rows = result['compared']
    (names, dots), = drawn
    assert names == [row['name'] for row in rows]
    # Those with accuracies, in the first batch size.
    assert dots == [dots_of(row) for row in rows[:4]]
    assert [(row['mode'], row['batch_size'], len(row['exits']))
            for row in rows[:5]] == [('eager', 1, 4), ('prepared', 1, 4),
                                     ('eager', 1, 1), ('prepared', 1, 1),
                                     ('eager', 1, 1)]
    assert [row['runs'] for row in rows[::5]] == [6, 3]
    assert rows[4]['exits'][0]['of_base'] == 1
    assert rows[0]['dynamic']['shares'][0] == 0.5
    assert rows[0]['top1']['exits'] == rows[1]['top1']['exits']
    assert rows[0]['peak_memory_mib'] > 0 and rows[1]['peak_memory_mib'] > 0
    assert len(result['training']) == 3
    assert result['exits'] == rows[0]['exits'] and result['batch_size'] == 1


def test_published_accuracies(config, tool, tmp_path, drawn):
    """Those of the metafile and of torchvision, on random images."""
    out, plot = tmp_path / 'latency.json', tmp_path / 'latency.png'
    name = 'dyn-perceiver_resnet22-w025_1xb128-10e_cifar10-folder'
    configs = Path(__file__).resolve().parents[2] / 'configs' / 'cifar'
    options = ('--size', 32, 32, '--runs', 2, '--warmup', 0,
               '--published-top1', '--plot', plot)
    output, error = tool('benchmark', configs / f'{name}.py', '--against',
                         'torchvision:mobilenet_v3_small', '--out', out,
                         *options)
    assert error is None, error
    rows = json.loads(out.read_text())['compared']
    assert drawn[0][1] == [dots_of(row) for row in rows]
    assert len(rows[0]['top1']['exits']) == 4
    assert rows[1]['top1'] == dict(exits=[67.668])
    _, error = tool('benchmark', config(), *options)
    assert 'no metafile.yml' in error and '\n' not in error
    curve = tmp_path / 'curve.csv'
    curve.write_text('name,macs,top1\na,5e6,70\na,1e7,75\n')
    output, error = tool('benchmark', configs / f'{name}.py', '--curve', name,
                         curve, '--out', out, *options)
    assert error is None, error
    row, = json.loads(out.read_text())['compared']
    assert row['top1']['curve'][1] == dict(macs=1e7, top1=75)
    for given, message in (((name, 'none.csv'), 'no file of curves'),
                           (('other', curve), f'one of {name}')):
        _, error = tool('benchmark', configs / f'{name}.py', '--curve', *given,
                        *options)
        assert message in error and '\n' not in error
    curve.write_text('series,data,macs,accuracy,share_0\nexit 0,test,1,1,1\n')
    _, error = tool('benchmark', configs / f'{name}.py', '--curve', name,
                    curve, *options)
    assert 'has 4 exits, but' in error and 'shares of 1' in error


DEPLOYED = ('onnxruntime', 'openvino')


@pytest.fixture
def runtimes():
    """The runtimes, if they are there."""
    for package in ('onnx', *DEPLOYED):
        pytest.importorskip(package)


def test_runtimes(config, tool, trained, tmp_path, runtimes, drawn):
    """Staged, as one graph, static, and from a folder; top-1 and drawing."""
    out, plot = tmp_path / 'latency.json', tmp_path / 'latency.png'
    folder = tmp_path / 'exported'
    _, error = tool('export', config(), trained / 'epoch_1.pth', folder,
                    '--size', 32, 32, '--thresholds', 0, 0, 0)
    assert error is None, error
    path, net = config(), 'torchvision:mobilenet_v3_small'
    name = path.rpartition('/')[2].removesuffix('.py')
    output, error = tool('benchmark', path, trained / 'epoch_1.pth',
                         '--against', net, '--exported', f'{folder}/',
                         '--base', f'{net}:openvino', net, name, '--modes',
                         'eager', *DEPLOYED, '--unsplit', '--images', 'test',
                         '--batch-size', 1, 3, '--runs', 4, '--warmup', 1,
                         '--thresholds', 0, 0, 0, '--out', out, '--plot', plot)
    assert error is None, error
    assert f'base 2: {net}, eager' in output
    result = json.loads(out.read_text())
    rows = result['compared']
    assert drawn[0][1] == [
        dots_of(row) for row in rows[:len(rows) // 2] if 'top1' in row
    ]
    exits = {(row['name'], row['mode']): len(row['exits']) for row in rows}
    expected = {(name, 'eager'): 4, (net, 'eager'): 1}
    for mode in DEPLOYED:
        for one, count in ((name, 4), (f'{name} (one graph)', 1), (net, 1),
                           ('exported', 4)):
            expected[one, mode] = count
    assert exits == expected
    found = {(row['name'], row['mode']): row for row in rows[:len(rows) // 2]}
    assert found[net, 'openvino']['exits'][0]['of_base'] == 1
    assert found[net, 'eager']['exits'][0]['of_bases'][1] == 1
    assert found[name, 'eager']['exits'][3]['of_bases'][2] == 1
    eager = found[name, 'eager']
    for mode in DEPLOYED:
        staged, one = found[name, mode], found[f'{name} (one graph)', mode]
        assert staged['dynamic']['shares'] == [1, 0, 0, 0]
        # The folder has the same thresholds, of its own.
        assert found['exported', mode]['dynamic']['shares'] == [1, 0, 0, 0]
        assert staged['top1'] == eager['top1'] == found['exported',
                                                        mode]['top1']
        assert one['top1']['exits'] == eager['top1']['exits'][3:]
        assert [row['macs'] for row in staged['exits']
                ] == [row['macs'] for row in eager['exits']]
        assert one['exits'][0]['macs'] == eager['exits'][3]['macs']
        assert 'peak_memory_mib' not in staged and 'dynamic' not in one
    assert result['machine']['onnxruntime'] and result['machine']['openvino']


def test_runtimes_alone(config, tool, tmp_path, runtimes):
    """Thresholds by shares; networks of torchvision do not run eager."""
    out = tmp_path / 'latency.json'
    static = config("model = dict(backbone=dict(_delete_=True, "
                    "type='ConvBackbone', arch='resnet18', width=0.25), "
                    "head=dict(num_classes=3, kinds=('x', )))\n")
    path = config()
    _, error = tool('benchmark', path, '--against', static, '--against',
                    'torchvision:mobilenet_v3_small', '--modes', 'openvino',
                    '--size', 32, 32, '--runs', 8, '--warmup', 0,
                    '--batch-size', 2, '--num-images', 8, '--threads',
                    torch.get_num_threads(), '--shares', 0.5, 0.25, 0.1, 0.15,
                    '--out', out)
    assert error is None, error
    result = json.loads(out.read_text())
    assert result['mode'] == 'openvino'
    assert [(row['mode'], len(row['exits']), 'dynamic' in row)
            for row in result['compared']] == [('openvino', 4, True),
                                               ('openvino', 1, False),
                                               ('openvino', 1, False)]
    shares = result['compared'][0]['dynamic']['shares']
    assert shares == pytest.approx([0.5, 0.25, 0.125, 0.125])
    assert result['exits'] == result['compared'][0]['exits']


def test_int8_folder(config, tool, trained, images, tmp_path, runtimes):
    """Bf16 is for what was not quantised."""
    from mmdynperceiver.benchmark.deployed import check_deployed_modes
    from mmdynperceiver.errors import InputError
    modes = ['onnxruntime', 'openvino', 'openvino-bf16']
    try:
        check_deployed_modes(modes)
    except InputError:  # a processor without bf16
        modes.pop()
    folder, out = tmp_path / 'int8', tmp_path / 'latency.json'
    _, error = tool('export', config(), trained / 'epoch_1.pth', folder,
                    '--size', 32, 32, '--int8-calibration', images / 'val')
    assert error is None, error
    path = config()
    _, error = tool('benchmark', path, '--exported', folder, '--modes', *modes,
                    '--size', 32, 32, '--runs', 2, '--warmup', 0,
                    '--num-images', 8, '--shares', 0.5, 0.25, 0, 0.25, '--out',
                    out)
    assert error is None, error
    rows = json.loads(out.read_text())['compared']
    assert [row['mode'] for row in rows if row['name'] == 'int8'] == modes
    for row in rows:
        assert row['exits'][3]['median_ms'] > 0 and row['dynamic']


@pytest.mark.parametrize('options, message', [
    (['--size', '32', '32', '--modes', 'onnxruntime', '--exported', 'FOLDER'
      ], "(3, 48, 48), and those to measure with have (3, 32, 32)"),
    (['--modes', 'onnxruntime', '--exported', 'nowhere'], 'no manifest.json'),
    ([
        '--modes', 'eager', 'onnxruntime', '--size', '32', '32', '--base',
        'torchvision:mobilenet_v3_small:openvino'
    ], ':onnxruntime, got \'torchvision:mobilenet_v3_small:openvino\''),
])
def test_errors_of_runtimes(config, tool, trained, tmp_path, runtimes, options,
                            message):
    folder = tmp_path / 'out'
    if 'FOLDER' in options:
        _, error = tool('export', config(), trained / 'epoch_1.pth', folder,
                        '--size', 48, 48)
        assert error is None, error
    options = [str(folder) if o == 'FOLDER' else o for o in options]
    _, error = tool('benchmark', config(), '--runs', 1, *options)
    assert message in error and '\n' not in error


def test_a_missing_runtime_is_told_before_anything_is_built(
        config, tool, monkeypatch):
    from mmdynperceiver.benchmark import modes
    monkeypatch.setattr(modes, 'find_spec', lambda name: None)
    _, error = tool('benchmark', 'no config', '--modes', 'onnxruntime')
    assert 'pip install -e ".[deploy]"' in error and '\n' not in error


@pytest.mark.parametrize('options, message', [
    (['--against', 'torchvision:none'], 'Unknown model none'),
    (['--against', 'a.py', 'b.pth', 'c'], 'a config and perhaps its'),
    (['--base', 'other', '--size', '32', '32'], '--base must be one of'),
    (['--shares', '0.5', '0.5', '--size', '32', '32'], 'shares'),
    (['--num-images', '1', '--batch-size', '2'], '--num-images is 1'),
    (['--images', 'test', '--batch-size', '7'], 'only 6 test images'),
    (['--out', 'x.txt'], 'must end with .json'),
    (['--cfg-options', 'test_dataloader.dataset.data_root=/nowhere'
      ], "no data folder '/nowhere'"),
])
def test_errors_are_one_line(config, tool, options, message):
    _, error = tool('benchmark', config(), '--runs', 1, *options)
    assert message in error and '\n' not in error


def test_refuses_test_images_of_several_sizes(config, tool, images, tmp_path):
    shutil.copytree(images, tmp_path / 'data')
    Image.new('RGB', (40, 32)).save(tmp_path / 'data/val/cow/1.png')
    _, error = tool('benchmark', config(), '--runs', 1, '--images', 'test',
                    '--cfg-options',
                    f'test_dataloader.dataset.data_root={tmp_path / "data"}')
    assert 'must have one size' in error and 'cow/1.png' in error


def test_refuses_no_runs(config, tool):
    output, error = tool('benchmark', config(), '--runs', 0)
    assert error == 2 and '--runs must be at least 1, got 0' in output
    output, error = tool('benchmark', config(), '--size', -3, 32)
    assert error == 2 and '--size must be at least 1, got -3' in output
    output, error = tool('benchmark', config(), '--plot', 'x.png')
    assert error == 2 and '--images test' in output


@pytest.mark.parametrize('options, message', [
    (['--exported', 'x'], '--exported needs one of onnxruntime, openvino'),
    (['--unsplit'], '--unsplit needs one of'),
    (['--modes', 'litert', '--onnx', 'x.onnx'
      ], '--onnx needs one of onnxruntime, openvino, openvino-bf16 among'),
    (['--files', 'x'], 'add --exported FOLDER'),
    (['--clock', 'cpu', '--threads', '2'], 'for one thread on the CPU, got 2'),
    (['--modes', 'onnxruntime', '--device', 'cuda'], '--device cpu, got cuda'),
    (['--modes', 'prepared', '--train-batch-size', '2'], 'needs eager'),
])
def test_refuses_options_without_effect(tool, options, message):
    output, error = tool('benchmark', 'x.py', *options)
    assert error == 2 and message in output


def test_training_refers_to_a_network_that_trains(config, tool, tmp_path,
                                                  runtimes):
    """The base of the times may run in a runtime: then the same, eager."""
    out = tmp_path / 'latency.json'
    common = ('--size', 32, 32, '--runs', 1, '--warmup', 0, '--modes',
              'onnxruntime', 'eager', '--train-batch-size', 2)
    _, error = tool('benchmark', config(), *common, '--out', out)
    assert error is None, error
    step, = json.loads(out.read_text())['training']
    assert step['of_base'] == 1
    path = config()
    name = path.rpartition('/')[2].removesuffix('.py')
    _, error = tool('benchmark', path, *common, '--unsplit', '--base',
                    f'{name} (one graph)')
    assert 'needs a --base that PyTorch runs' in error
