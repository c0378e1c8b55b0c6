# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From tiny video files through the tools, MMAction2's own among them."""
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import mmaction
import pytest
import torch
from host_tools import run_host_tool
from tiny import ROOT, run_tool

from mmdynperceiver.core import Trunk

DEMO = (
    ROOT / 'configs/demo' /
    'dyn-perceiver-tsm_resnet22-w025_1xb32-1x1x8_clips.py')
HOST_TOOLS = Path(mmaction.__file__).parent / '.mim/tools'


@pytest.fixture(scope='module')
def config(videos, tmp_path_factory):
    """The demo's config on three classes of tiny videos."""
    folder = tmp_path_factory.mktemp('config')
    for name in ('train', 'val', 'test'):
        shutil.copy(videos / 'list.txt', videos / f'{name}.txt')
    trunk = Trunk(
        dict(block='basic', depths=(1, 1, 4, 4)),
        num_latents=8,
        width=0.25,
        depth_factor=(0, 0, 0, 2 / 3))
    weights = {
        f'backbone.net.{name}': value
        for name, value in trunk.state_dict().items()
    }
    torch.save(dict(state_dict=weights), folder / 'trunk.pth')
    path = folder / 'tiny.py'
    roots = ''.join(
        f'{name}_dataloader = dict(num_workers=0, persistent_workers=False, '
        f'batch_size=4, dataset=dict(data_root={str(videos)!r}, '
        f"metainfo=dict(classes=('right', 'left', 'down'))))\n"
        for name in ('train', 'val', 'test'))
    path.write_text(f'''
_base_ = [{str(DEMO)!r}]
model = dict(
    backbone=dict(init_cfg=dict(checkpoint={str(folder / 'trunk.pth')!r})),
    cls_head=dict(num_classes=3))
{roots}
train_dataloader['dataset']['pipeline'] = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=1, num_clips=8),
    dict(type='DecordDecode'),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs')]
train_cfg = dict(max_epochs=1, val_interval=1)
''')
    return str(path)


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory):
    """Train for an epoch; gives the work folder."""
    work_dir = tmp_path_factory.mktemp('work')
    assert run_tool('train', config, '--work-dir', work_dir) is None
    return work_dir


def test_the_schedule_follows_a_run_of_one_epoch(trained):
    """Two steps: the shipped warm-up alone takes an epoch."""
    log, = trained.glob('*/*.log')
    assert 'schedule of the learning rate is fitted to 2 steps: CosineAn' in \
        log.read_text()
    assert list(trained.glob('*/vis_data/vis_image/accuracy_macs_1.png'))


def test_a_short_run_learns(config, tmp_path):
    """The demo's recipe with an average: 48 steps on six videos."""
    average = "[dict(type='EvaluateAllExitsHook'),dict(type='WarmupEMAHook'," \
        'update_buffers=True)]'
    out = tmp_path / 'out.json'
    options = [
        '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=24',
        'train_cfg.val_interval=24', 'default_hooks.checkpoint.interval=24',
        f'custom_hooks={average}'
    ]
    assert run_tool('train', config, *options) is None
    assert run_tool('test', config, tmp_path / 'epoch_24.pth', '--out', out,
                    *options) is None
    # Chance has 33.
    assert json.loads(out.read_text())['metrics']['exit3/top1'] > 80


def test_trains_and_tests(trained, config, tmp_path):
    out, dump = tmp_path / 'out.json', tmp_path / 'scores.pkl'
    assert run_tool('test', config, trained / 'epoch_1.pth', '--work-dir',
                    tmp_path, '--thresholds', 0, 0, 0, '--out', out, '--dump',
                    dump) is None
    metrics = json.loads(out.read_text())['metrics']
    assert metrics['exit0/share'] == 1
    assert {'exit3/top1', 'dynamic/macs'} <= set(metrics)
    # What fuses scores of several streams reads these two.
    scores = pickle.loads(dump.read_bytes())
    assert len(scores) == 6
    assert scores[0]['pred_score'].shape == (3, )
    assert scores[0]['gt_label'].shape == (1, )


def test_hosts_own_tools(trained, config, tmp_path):
    """MMAction2's train.py goes on, its test.py evaluates and dumps."""

    def run(tool, *args):
        done = subprocess.run([
            sys.executable, '-W', 'ignore',
            str(HOST_TOOLS / f'{tool}.py'), config, *map(str, args),
            '--work-dir',
            str(tmp_path)
        ],
                              env=dict(
                                  PATH='/usr/bin:/bin',
                                  PYTHONPATH=str(ROOT),
                                  OMP_NUM_THREADS='1'),
                              cwd=tmp_path,
                              capture_output=True,
                              text=True,
                              timeout=300)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout + done.stderr

    run('train', '--resume', trained / 'epoch_1.pth', '--cfg-options',
        'train_cfg.max_epochs=2')
    output = run('test', tmp_path / 'epoch_2.pth', '--dump',
                 tmp_path / 'scores.pkl')
    assert 'exit3/top1' in output
    assert len(pickle.loads((tmp_path / 'scores.pkl').read_bytes())) == 6
    # What reads these, and counts MACs.
    accuracy = run_host_tool(mmaction, 'analysis_tools/eval_metric.py', config,
                             tmp_path / 'scores.pkl')
    assert 'dynamic/top1' in accuracy
    flops = run_host_tool(mmaction, 'analysis_tools/get_flops.py', config,
                          '--shape', 8, 3, 32, 32)
    assert 'Flops: ' in flops


def test_calibrates(trained, config, tmp_path):
    """The same tool as for images; the report shows film strips."""
    point, report = tmp_path / 'point.json', tmp_path / 'report'
    error = run_tool('calibrate', config, trained / 'epoch_1.pth',
                     '--work-dir', tmp_path, '--budget-macs', '70%', '--split',
                     'val', '--out', point, '--report', report,
                     '--cfg-options', 'train_dataloader=None')
    assert error is None
    content = json.loads(point.read_text())
    # Eight frames of 32x32 to exit 0, and the budget.
    assert 12.2e6 < content['expected']['macs'] < 0.7 * 35e6
    assert (report / 'gallery.png').stat().st_size > 10000
    page = (report / 'index.html').read_text()
    assert 'Easy and hard clips' in page and 'cells clips' in page
    assert 'mean MACs of one clip' in page and ' images' not in page
    assert run_tool('test', config, trained / 'epoch_1.pth', '--work-dir',
                    tmp_path, '--thresholds-file', point) is None


def test_calibration_refuses_training_videos(trained, config, tmp_path):
    error = run_tool('calibrate', config, trained / 'epoch_1.pth',
                     '--work-dir', tmp_path, '--budget-macs', '70%')
    assert '6 of the 6 held-out images are training images' in error


def test_benchmark(config, tmp_path):
    out = tmp_path / 'latency.json'
    assert run_tool('benchmark', config, '--size', 32, 32, '--runs', 2,
                    '--warmup', 0, '--out', out) is None
    content = json.loads(out.read_text())
    assert content['shape'] == [8, 3, 32, 32]


def test_video_demo(trained, config, videos, tmp_path, capsys):
    out = tmp_path / 'out.json'
    error = run_tool('video_demo', config, trained / 'epoch_1.pth',
                     videos / '0.avi', videos / '3.avi', '--thresholds', 2, 0,
                     0, '--topk', 2, '--out', out)
    assert error is None
    first, second = json.loads(out.read_text())
    assert (first['exit_index'], second['exit_index']) == (1, 1)
    assert len(first['classes']) == 2
    assert first['classes'][0]['name'] in ('right', 'left', 'down')
    assert first['macs'] < first['all_macs']
    assert first['classes'][0]['name'] in capsys.readouterr().out


def test_video_demo_goes_on_without_broken_videos(trained, config, videos,
                                                  tmp_path, capsys):
    """Class names with brackets are no markup."""
    folder, out = tmp_path / 'videos', tmp_path / 'out.jsonl'
    folder.mkdir()
    shutil.copy(videos / '0.avi', folder / 'a [b].avi')
    shutil.copy(videos / '1.avi', folder / 'z[/z].avi'.replace('/', '-'))
    (folder / 'broken.mp4').write_bytes(b'broken')
    (folder / '._a.avi').write_bytes(b'hidden')
    names = tmp_path / 'names.txt'
    names.write_text('Putting [something]\nopen[/close]\n:car:\n')
    error = run_tool('video_demo', config, trained / 'epoch_1.pth', folder,
                     '--classes', names, '--exit', 0, '--out', out)
    assert error is None
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [Path(row['video']).name
            for row in rows] == ['a [b].avi', 'broken.mp4', 'z[-z].avi']
    assert 'cannot be decoded' in rows[1]['error']
    for row in (rows[0], rows[2]):
        assert row['exit_index'] == 0 and row['macs'] < row['all_macs']
        assert {c['name']
                for c in row['classes']
                } == {'Putting [something]', 'open[/close]', ':car:'}
    printed = capsys.readouterr()
    for text in ('a [b].avi', 'z[-z].avi', 'Putting', '[something]', ':car:',
                 'open[/close]', '1 could not be read'):
        assert text in printed.out
    assert 'skipped: ' in printed.err and 'broken.mp4' in printed.err
    error = run_tool('video_demo', config, trained / 'epoch_1.pth', folder,
                     '--on-broken', 'raise', '--out', out)
    assert 'broken.mp4' in error and len(out.read_text().splitlines()) == 1


@pytest.mark.parametrize('video, options, message', [
    ('9.avi', (), 'no such file'),
    ('list.txt', (), 'cannot be decoded'),
    ('0.avi', ('--thresholds', '0.5'), 'need 3 thresholds'),
])
def test_video_demo_refuses(trained, config, videos, video, options, message):
    error = run_tool('video_demo', config, trained / 'epoch_1.pth',
                     videos / video, *options)
    assert error.startswith('error: ') and message in error


def test_inferencer_really_stops(trained, config, videos):
    from mmaction.apis import ActionRecogInferencer
    inferencer = ActionRecogInferencer(
        config, str(trained / 'epoch_1.pth'), device='cpu')
    inferencer.model.policy.set_thresholds((0, 0, 0))
    sample, = inferencer(
        str(videos / '0.avi'), return_datasamples=True)['predictions']
    assert sample.exit_index == 0 and 'exit_logits' not in sample
    plain, = inferencer(str(videos / '0.avi'))['predictions']
    assert len(plain['pred_scores']) == 3
    assert plain['exit_index'] == 0
    assert plain['exit_confidence'] == max(plain['pred_scores'])
    assert plain['macs'] == sample.macs < sample.exit_macs[-1]


def test_hosts_task_inferencer_says_where_videos_left(trained, config, videos,
                                                      tmp_path, capsys):
    from mmaction.apis import MMAction2Inferencer
    inferencer = MMAction2Inferencer(
        config, str(trained / 'epoch_1.pth'), device='cpu')
    inferencer.actionrecog_inferencer.model.policy.set_thresholds((2, 0, 0))
    out = tmp_path / 'out.json'
    result = inferencer(
        str(videos / '0.avi'), print_result=True, pred_out_file=str(out))
    row, = result['predictions']
    assert row['rec_exit_index'] == [1] and row['rec_macs'][0] > 1e6
    assert row['rec_exit_confidence'] == [max(row['rec_scores'][0])]
    assert json.loads(out.read_text()) == dict(predictions=[row])
    assert "'rec_exit_index': [1]" in capsys.readouterr().out
