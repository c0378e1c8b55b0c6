# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""MMPretrain's own tools, its inferencer, and several processes."""
import json
import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
from host_tools import run_host_tool
from PIL import Image
from tiny import IMAGENET_CONFIG, ROOT

HOST_TOOLS = Path(mmpretrain.__file__).parent / '.mim/tools'


def run(*command, cwd):
    """Run a command in a folder that it may fill."""
    environment = dict(
        os.environ,
        PYTHONPATH=str(ROOT),
        PYTHONWARNINGS='ignore',
        OMP_NUM_THREADS='1',
        PYTHON=sys.executable)
    result = subprocess.run([str(part) for part in command],
                            cwd=cwd,
                            env=environment,
                            stdin=subprocess.DEVNULL,
                            capture_output=True,
                            text=True,
                            timeout=300)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-5000:]
    return output


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def test_hosts_train_resumes(trained, config, tmp_path):
    """Safe loading is patched although the host's tool is imported first."""
    run(sys.executable,
        HOST_TOOLS / 'train.py',
        config(),
        '--work-dir',
        tmp_path,
        '--resume',
        trained / 'epoch_1.pth',
        '--no-persistent-workers',
        '--cfg-options',
        'train_cfg.max_epochs=2',
        cwd=tmp_path)
    assert (tmp_path / 'epoch_2.pth').is_file()


def test_hosts_tool_draws_the_schedule(tmp_path):
    """It runs the hooks with a model without exits, and without data."""
    run(sys.executable,
        HOST_TOOLS / 'visualization/vis_scheduler.py',
        IMAGENET_CONFIG,
        '--dataset-size',
        512,
        '--save-path',
        tmp_path / 'rates.png',
        '--not-show',
        '--cfg-options',
        'train_cfg.max_epochs=30',
        cwd=tmp_path)
    pixels = np.array(Image.open(tmp_path / 'rates.png').convert('RGB'), int)
    curve = np.ptp(pixels, axis=2) > 60
    heights = curve[:, curve.any(0)].argmax(0)
    # Up for 20 of 30 epochs, then down to where it began.
    assert heights.argmin() / len(heights) == pytest.approx(2 / 3, abs=0.02)
    assert heights[0] == pytest.approx(heights[-1], abs=3) == heights.max()


def test_hosts_test(trained, config, tmp_path):
    """Also with test-time augmentation, where two views cost twice."""
    found = []
    for model, options in (('model', ()), ('model.module', ('--tta', ))):
        out = tmp_path / 'metrics.json'
        run(sys.executable,
            HOST_TOOLS / 'test.py',
            config(),
            trained / 'epoch_1.pth',
            '--work-dir',
            tmp_path,
            '--out',
            out,
            '--out-item',
            'metrics',
            '--cfg-options',
            f'{model}.thresholds=[2,0,0]',
            *options,
            cwd=tmp_path)
        metrics = json.loads(out.read_text())
        assert metrics['exit1/share'] == 1
        assert {'exit0/top1', 'exit3/top1', 'dynamic/top1'} <= set(metrics)
        found.append(metrics)
    for name in ('exit0/macs', 'exit3/macs', 'dynamic/macs'):
        assert found[1][name] == 2 * found[0][name]


def test_hosts_analysis(trained, config, images, tmp_path, monkeypatch):
    """What reads predictions, logs, images and models."""
    monkeypatch.chdir(tmp_path)
    path, found = config(), tmp_path / 'found.pkl'

    def run_tool(name, *args):
        return run_host_tool(mmpretrain, name, *args)

    run_tool('test.py', path, trained / 'epoch_1.pth', '--work-dir', tmp_path,
             '--out', found, '--out-item', 'pred')
    right = [
        int(sample['pred_score'].argmax() == sample['gt_label'])
        for sample in pickle.loads(found.read_bytes())
    ]
    run_tool('analysis_tools/confusion_matrix.py', path, found, '--out',
             tmp_path / 'matrix.pkl')
    matrix = pickle.loads((tmp_path / 'matrix.pkl').read_bytes())
    assert matrix.sum() == 6 and matrix.trace() == sum(right)
    accuracy = run_tool('analysis_tools/eval_metric.py', found, '--metric',
                        'type=Accuracy', 'topk=1')
    top1 = float(re.search(r"top1': ([\d.]+)", accuracy)[1])
    assert top1 == pytest.approx(100 * sum(right) / 6)
    run_tool('analysis_tools/analyze_results.py', path, found, '--out-dir',
             tmp_path / 'sorted', '--topk', 1)
    assert list((tmp_path / 'sorted').glob('*/*.png'))
    log = next(trained.glob('*/vis_data/scalars.json'))
    run_tool('analysis_tools/analyze_logs.py', 'plot_curve', log, '--keys',
             'loss', 'exit3/top1', '--out', tmp_path / 'curve.png')
    assert Image.open(tmp_path / 'curve.png').width > 300
    (images / 'val/bee/broken.png').write_bytes(b'no image')
    try:
        run_tool('misc/verify_dataset.py', path, '--phase', 'val',
                 '--out-path', tmp_path / 'bad.log')
    finally:
        (images / 'val/bee/broken.png').unlink()
    assert 'broken.png' in (tmp_path / 'bad.log').read_text()
    flops = run_tool('analysis_tools/get_flops.py', path, '--shape', 32, 32)
    assert 'Flops: ' in flops and 'backbone' in flops
    run_tool('kfold-cross-valid.py', path, '--num-splits', 3, '--fold', 1,
             '--no-persistent-workers', '--work-dir', tmp_path / 'folds')
    assert (tmp_path / 'folds/fold1/epoch_1.pth').is_file()


def test_hosts_vis_tsne(trained, config, tmp_path):
    pytest.importorskip('sklearn')
    run(sys.executable,
        HOST_TOOLS / 'visualization/vis_tsne.py',
        config(),
        '--checkpoint',
        trained / 'epoch_1.pth',
        '--perplexity',
        3,
        '--n-iter',
        250,
        '--device',
        'cpu',
        '--work-dir',
        tmp_path,
        cwd=tmp_path)
    names = {path.name for path in tmp_path.glob('tsne_*/*')}
    assert {f'feat_{k}.{end}'
            for k in range(4)
            for end in ('npy', 'png')} <= names
    features = [
        np.load(next(tmp_path.glob(f'tsne_*/feat_{k}.npy'))) for k in range(4)
    ]
    assert [values.shape for values in features] == [(6, 32), (6, 64),
                                                     (6, 128), (6, 192)]


def test_models_by_name():
    import mmdynperceiver.classification  # noqa: F401
    names = mmpretrain.list_models('dyn-perceiver*')
    assert 'dyn-perceiver_regnety-800mf_8xb128_in1k' in names
    assert 'resnet18_8xb32_in1k' in mmpretrain.list_models('resnet18')
    name = 'dyn-perceiver_resnet22-w025_1xb128-10e_cifar10-folder'
    with pytest.warns(UserWarning, match='Unable to find pre-defined check'):
        model = mmpretrain.get_model(name, pretrained=True)
    assert type(model).__name__ == 'DynPerceiverClassifier'
    assert model._metainfo.name == name and model.head.num_classes == 10


def test_prefixed_names_need_no_custom_imports(trained, config, tmp_path):
    """Every part of ours by its full name, from MMPretrain's own tool."""
    path = config('''
custom_imports = None
model.update(type='mmdynperceiver.DynPerceiverClassifier')
model['backbone'].update(type='mmdynperceiver.DynPerceiverBackbone')
model['head'].update(type='mmdynperceiver.DynPerceiverHead')
test_dataloader['dataset'].update(type='mmdynperceiver.CheckedImageFolder')
test_evaluator = dict(type='mmdynperceiver.EarlyExitMetric')
custom_hooks = [dict(type='mmdynperceiver.EvaluateAllExitsHook')]
''')
    output = run(
        sys.executable,
        HOST_TOOLS / 'test.py',
        path,
        trained / 'epoch_1.pth',
        '--work-dir',
        tmp_path,
        cwd=tmp_path)
    assert 'exit3/top1' in output


def test_inferencer_really_stops(trained, config, images, tmp_path):
    from mmpretrain import ImageClassificationInferencer
    path = config("model['thresholds'] = [2, 0, 0]\n")
    inferencer = ImageClassificationInferencer(
        path, pretrained=str(trained / 'epoch_1.pth'), device='cpu')
    image = str(images / 'val/bee/0.png')
    result = inferencer(image)[0]
    assert result['pred_class'] in ('ant', 'bee', 'cow')
    assert result['exit_index'] == 1
    assert result['exit_confidence'] == pytest.approx(result['pred_score'])
    macs = inferencer.model.macs_per_exit((3, 32, 32))
    assert result['macs'] == macs[1]
    samples = inferencer(
        [image] * 3,
        return_datasamples=True,
        batch_size=2,
        show_dir=str(tmp_path / 'shown'))
    assert [sample.exit_index for sample in samples] == [1, 1, 1]
    assert 'exit_logits' not in samples[0]
    shown, = (tmp_path / 'shown').iterdir()
    assert shown.name == '0.png'
    # The class is written on it.
    assert not np.array_equal(Image.open(shown), Image.open(image))


def test_two_processes(config, tool, tmp_path, monkeypatch):
    """Train and evaluate; nine and six images are split over two."""
    path = config()
    monkeypatch.setenv('PORT', str(free_port()))
    output = run(
        ROOT / 'tools/dist_train.sh',
        path,
        2,
        '--work-dir',
        tmp_path,
        cwd=tmp_path)
    # Five images each, in batches of four: also a last batch of one.
    assert '[1][2/2]' in output
    monkeypatch.setenv('PORT', str(free_port()))
    out = tmp_path / 'results.json'
    run(ROOT / 'tools/dist_test.sh',
        path,
        tmp_path / 'epoch_1.pth',
        2,
        '--work-dir',
        tmp_path,
        '--exit',
        2,
        '--out',
        out,
        cwd=tmp_path)
    distributed = json.loads(out.read_text())['metrics']
    assert distributed['exit2/share'] == 1
    tool('test', config(), tmp_path / 'epoch_1.pth', '--work-dir', tmp_path,
         '--exit', 2, '--out', out)
    single = json.loads(out.read_text())['metrics']
    for name, value in single.items():
        if name.startswith(('exit', 'dynamic')):
            assert distributed[name] == pytest.approx(value), name


@pytest.mark.parametrize('name, count', [('train', 2), ('test', 3)])
def test_scripts_say_what_they_need(name, count):
    result = subprocess.run([str(ROOT / f'tools/dist_{name}.sh'), 'config.py'],
                            capture_output=True,
                            text=True)
    assert result.returncode == 2 and 'usage' in result.stderr
