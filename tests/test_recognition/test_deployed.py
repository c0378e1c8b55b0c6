# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Recognizers exported to ONNX: the same results, without torch."""
import importlib.util
import json
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny import ROOT, run_tool

import mmdynperceiver.recognition  # noqa: F401
from mmdynperceiver.core import ExitPolicy
from mmdynperceiver.deploy import Runner
from mmdynperceiver.deploy.video_pipeline import (is_video,
                                                  read_video_preprocessing)
from .conftest import draw_frames
from .test_recognizer import build

if not all(map(importlib.util.find_spec, ('onnx', 'onnxruntime'))):
    pytest.skip('onnx or onnxruntime is missing', allow_module_level=True)

FRAMES = 3
CLASSES = ('right', 'left', 'down', 'up', 'none')
NORMALISE = dict(
    type='ActionDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    format_shape='NCHW')
SAMPLE = dict(
    type='SampleFrames', clip_len=1, num_clips=FRAMES, test_mode=True)
TAIL = [dict(type='FormatShape', input_format='NCHW'), dict(
    type='PackActionInputs')]  # yapf: disable
PIPELINE = [
    dict(type='DecordInit'),
    dict(type='RequireFrames', min_frames=4), SAMPLE,
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 35)),
    dict(type='CenterCrop', crop_size=32), *TAIL
]


def settings_of(pipeline, normalise=NORMALISE, size=None):
    config = Config(dict(pipeline=pipeline, normalise=normalise))
    assert is_video(config.pipeline)
    return read_video_preprocessing(config.pipeline, config.normalise, size)


@pytest.fixture(scope='module')
def model():
    """A recognizer whose exits differ in what they say."""
    torch.manual_seed(0)
    model = build(
        data_preprocessor=NORMALISE,
        backbone=dict(
            type='DynPerceiverTSM',
            arch='resnet18',
            width=0.25,
            num_latents=16,
            depth_factor=(0, 0, 1 / 9, 1 / 3),
            num_segments=FRAMES,
            shift_div=4)).eval()
    for classifier in model.cls_head.exits.classifiers:
        layer = classifier if isinstance(classifier, torch.nn.Linear) else \
            classifier[-1]
        torch.nn.init.normal_(layer.weight, std=6 / layer.in_features**0.5)
    return model


@pytest.fixture(scope='module')
def source(model, videos, tmp_path_factory):
    """Its config and checkpoint, on the tiny videos."""
    folder = tmp_path_factory.mktemp('source')
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(dataset_meta=dict(classes=CLASSES))),
        folder / 'model.pth')
    shutil.copy(videos / 'list.txt', videos / 'test.txt')
    (folder / 'config.py').write_text(f'''
_base_ = [{str(ROOT / 'configs/_base_/video_runtime.py')!r}]
model = dict(
    type='DynPerceiverRecognizer',
    backbone=dict(
        type='DynPerceiverTSM', arch='resnet18', width=0.25, num_latents=16,
        depth_factor=(0, 0, 1 / 9, 1 / 3), num_segments={FRAMES},
        shift_div=4),
    cls_head=dict(type='DynPerceiverTSMHead', num_classes=5),
    data_preprocessor={NORMALISE!r})
test_dataloader = dict(
    batch_size=1, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CheckedVideoDataset', data_root={str(videos)!r},
        ann_file='test.txt', data_prefix=dict(video=''), test_mode=True,
        pipeline={PIPELINE!r}))
test_evaluator = dict(type='EarlyExitMetric', topk=(1, ))
test_cfg = dict()
''')
    return folder


@pytest.fixture(scope='module')
def exported(source):
    """The folder that the tool writes."""
    out = source / 'out'
    error = run_tool('export', source / 'config.py', source / 'model.pth', out,
                     '--thresholds', 0.5, 0.5, 0.5)
    assert error is None
    return out


@pytest.fixture(scope='module')
def batch():
    """Normalised videos, of which not all leave at once."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((7, FRAMES, 3, 32, 32)).astype(np.float32)


def in_torch(model, batch, thresholds):
    """What the recognizer makes of them, stopping for real."""
    model.policy.set_thresholds(thresholds)
    with torch.no_grad():
        found, _ = model.run_exits(torch.from_numpy(batch))
    return found


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_videos_leave_where_they_do_in_torch(model, exported, batch, runtime):
    pytest.importorskip(runtime)
    runner = Runner.load(exported, runtime, threads=2)
    with torch.no_grad():
        all_logits = model(torch.from_numpy(batch), stage='head')
    for got, logits in zip(runner.all_exits(batch), all_logits, strict=True):
        np.testing.assert_allclose(got, logits, atol=1e-4)
    first, second = (x.softmax(1).amax(1) for x in all_logits[:2])
    # Between two confidences: rounding decides nothing.
    threshold = float(first.sort().values[2:4].mean())
    stay = second[first < threshold].sort().values
    chosen = (threshold, float(stay[-2:].mean()), 0.)
    runner = Runner.load(exported, runtime, thresholds=chosen)
    expected = in_torch(model, batch, chosen)
    out = runner.predict(batch)
    np.testing.assert_array_equal(out.exit_index, expected.exit_index)
    np.testing.assert_allclose(out.logits, expected.logits, atol=1e-4)
    assert len(set(out.exit_index)) == 3
    never = Runner.load(exported, runtime, thresholds=(2, 2, 2))
    np.testing.assert_allclose(
        never.predict(batch).logits, all_logits[-1], atol=1e-4)


def test_files_get_what_the_test_tool_says(source, exported, videos, tmp_path):
    """Decoded by decord there, and by OpenCV here."""
    dump = tmp_path / 'dump.pkl'
    assert run_tool('test', source / 'config.py', source / 'model.pth',
                    '--work-dir', tmp_path, '--dump', dump, '--thresholds',
                    0.5, 0.5, 0.5) is None
    expected = pickle.loads(dump.read_bytes())
    results = Runner.load(exported, streams=2)(videos, batch_size=2)
    assert len(results) == len(expected) == 6
    for result, sample in zip(results, expected):
        assert result.exit_index == sample['exit_index']
        assert result.macs == sample['macs']
        assert result.name == CLASSES[result.label]
        np.testing.assert_allclose(
            result.scores, sample['pred_score'], atol=1e-4)


BLOCKED = '''
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {blocked!r}:
            raise ImportError(name + ' is blocked')

sys.meta_path.insert(0, Block())
from mmdynperceiver.deploy.__main__ import main
sys.exit(main({arguments!r}))
'''


def test_command_line_without_torch(exported, videos, more_videos, tmp_path,
                                    run_python):
    out = tmp_path / 'out.json'
    code = BLOCKED.format(
        blocked=('torch', 'mmengine', 'mmcv', 'mmaction', 'decord', 'PIL'),
        arguments=[
            str(exported),
            str(videos),
            str(more_videos), '--out',
            str(out)
        ])
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert '9 videos; left at exits 0 to 3: ' in result.stdout
    assert '1 could not be read and was skipped' in result.stdout
    content = json.loads(out.read_text())
    assert len(content['results']) == 9 and 'video' in content['milliseconds']
    broken, = content['broken']
    assert broken['error'].startswith(f"cannot read the video "
                                      f"'{more_videos / 'broken.mp4'}'")


@pytest.mark.parametrize('video, message', [
    ('nowhere.mp4', 'there is no video file .*nowhere.mp4'),
    ('broken.mp4', 'cannot read the video .*OpenCV finds no video in it'),
    ('short.avi', r"the video '.*short.avi' is too short: it has 3 frames"),
    ('empty', 'there is no video in .*empty'),
])
def test_bad_videos_are_errors(exported, more_videos, video, message, capsys):
    from mmdynperceiver.deploy.__main__ import main
    from projects.digits import write_video
    write_video(more_videos / 'short.avi', draw_frames(0, 0, frames=3))
    (more_videos / 'empty').mkdir(exist_ok=True)
    try:
        code = main(
            [str(exported),
             str(more_videos / video), '--on-broken', 'raise'])
    finally:
        (more_videos / 'short.avi').unlink()
    assert code == 1
    error = capsys.readouterr().err.strip()
    assert re.search(message, error), error


def test_large_videos_are_not_decoded(exported, videos):
    runner = Runner.load(exported)
    runner.preprocessing.max_pixels = 1000
    with pytest.raises(ValueError, match='32x32 pixels, more than the limit'):
        runner(videos / '0.avi')


def test_int8_by_videos(source, videos, tmp_path, capsys):
    error = run_tool('export', source / 'config.py', source / 'model.pth',
                     tmp_path / 'out', '--int8-calibration', videos)
    assert error is None
    assert 'quantised by 6 images; on 6 images:' in capsys.readouterr().out
    runner = Runner.load(tmp_path / 'out')
    assert runner.manifest.precision == 'int8'
    exact = Runner.load(source / 'out', thresholds=(2, 2, 2))
    for one, other in zip(runner(videos), exact(videos)):
        assert np.abs(one.scores - other.scores).max() < 0.2


def test_benchmark_times_exported_videos(source, exported, tmp_path):
    out = tmp_path / 'latency.json'
    error = run_tool('benchmark', source / 'config.py', '--size', 32, 32,
                     '--runs', 2, '--warmup', 0, '--modes', 'eager',
                     'onnxruntime', '--exported', exported, '--out', out)
    assert error is None
    rows = json.loads(out.read_text())['compared']
    assert [row['mode'] for row in rows] == ['eager', *['onnxruntime'] * 2]
    macs = [[one['macs'] for one in row['exits']] for row in rows]
    assert len(macs[0]) == 4 and macs[0] == macs[1] == macs[2]


def test_other_numbers_of_frames_are_refused(model, tmp_path):
    from mmdynperceiver.deploy.export import export_network
    settings = settings_of([dict(SAMPLE, num_clips=4), *TAIL], size=(32, 32))
    with pytest.raises(ValueError, match='clips of 3 frames, and .* makes 4'):
        export_network(*model.exit_parts(), tmp_path / 'out', settings,
                       ExitPolicy(4), CLASSES)
    assert not list(tmp_path.iterdir())


def test_images_are_what_else_refuses(exported):
    """A service, and a tool for images, take no network for videos."""
    from mmdynperceiver.serve.settings import Settings, open_network
    with pytest.raises(ValueError, match='images are due.* takes videos'):
        open_network(Settings(str(exported)))
    error = run_tool('predict', exported, 'photo.jpg')
    assert 'python -m mmdynperceiver.deploy' in error
