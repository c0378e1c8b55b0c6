# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Frames that a deployed recognizer sees, against MMAction2's pipelines."""
import json

import cv2
import numpy as np
import pytest
from mmaction.registry import MODELS
from mmengine.dataset import Compose

from mmdynperceiver.deploy.video import VideoPreprocessing
from .test_deployed import (FRAMES, NORMALISE, PIPELINE, SAMPLE, TAIL,
                            settings_of)

PIPELINES = dict(
    demo=[*PIPELINE[:4], *TAIL],
    tsm=PIPELINE,
    opencv=[
        dict(type='OpenCVInit'), SAMPLE,
        dict(type='OpenCVDecode'),
        dict(type='Resize', scale=(48, 32), keep_ratio=False),
        dict(type='CenterCrop', crop_size=(33, 32)), *TAIL
    ],
    inside=[
        dict(type='DecordInit'),
        dict(SAMPLE, num_clips=16),
        dict(type='DecordDecode'),
        dict(type='Resize', scale=(60, 41), interpolation='area'), *TAIL
    ],
    crops=[
        dict(type='DecordInit'),
        dict(SAMPLE, twice_sample=True),
        dict(type='DecordDecode'),
        dict(type='Resize', scale=(-1, 32)),
        dict(type='ThreeCrop', crop_size=32), *TAIL
    ])


def by_the_host(pipeline, path, normalise=NORMALISE):
    """The same by MMAction2: normalised images (M, 3, H, W)."""
    packed = Compose(pipeline)(
        dict(
            filename=str(path),
            label=0,
            start_index=0,
            modality='RGB'))  # yapf: disable
    data = MODELS.build(normalise)(
        dict(inputs=[packed['inputs']], data_samples=[]))
    return data['inputs'][0].numpy()


@pytest.mark.parametrize('name', PIPELINES)
@pytest.mark.parametrize('to_rgb', [False, True])
def test_frames_are_those_of_the_host(more_videos, videos, name, to_rgb):
    normalise = dict(NORMALISE, to_rgb=to_rgb)
    for path in (videos / '0.avi', more_videos / 'upright.mp4',
                 more_videos / 'wide.webm'):
        expected = by_the_host(PIPELINES[name], path, normalise)
        settings = settings_of(PIPELINES[name], normalise, expected.shape[-2:])
        assert json.loads(json.dumps(settings)) == settings
        prepare = VideoPreprocessing(**settings)
        assert prepare.num_images == len(expected)
        np.testing.assert_array_equal(prepare(path), expected)


def test_frames_in_memory_are_those_of_the_file(videos):
    prepare = VideoPreprocessing(**settings_of(PIPELINE))
    capture = cv2.VideoCapture(str(videos / '1.avi'))
    frames = np.stack([capture.read()[1][..., ::-1] for _ in range(10)])
    np.testing.assert_array_equal(prepare(frames), prepare(videos / '1.avi'))
    with pytest.raises(ValueError, match='frames of one video as uint8, got '):
        prepare(frames[0])
    with pytest.raises(ValueError, match='it has 3 frames, at least 4 are'):
        prepare(frames[:3])
    with pytest.raises(TypeError, match='a video must be a path, or an array'):
        prepare(b'bytes')


def test_a_video_that_ends_before_its_header_says(more_videos):
    """Frames are spread over those that are there, as decord does it."""
    prepare = VideoPreprocessing(**settings_of(PIPELINES['demo'], size=(8, 8)))
    frames, name = prepare.frames(more_videos / 'cut.webm')
    every = dict(SAMPLE, num_clips=9)
    all_frames, _ = VideoPreprocessing(
        **settings_of([every, *TAIL], size=(8, 8))).frames(more_videos /
                                                           'wide.webm')
    numbers = [
        k for frame in frames for k, one in enumerate(all_frames)
        if np.array_equal(frame, one)
    ]
    assert len(numbers) == FRAMES and numbers == sorted(set(numbers))
    assert 3 < numbers[-1] < 7 and 'cut.webm' in name


@pytest.mark.parametrize('step, message', [
    (dict(SAMPLE, clip_len=4), 'must have clip_len=1, test_mode=True and no '),
    (dict(SAMPLE, test_mode=False), 'and no temporal_jitter .* got clip_len'),
    (dict(type='Flip'), "the transform 'Flip', which cannot be exported"),
    (dict(type='Resize', scale=.5), 'two numbers as scale to be exported'),
    (dict(type='DecordDecode', mode='efficient'), "mode='accurate' to be"),
    (dict(type='FormatShape', input_format='NCTHW'), "input_format='NCHW'"),
])
def test_transforms_that_cannot_be_exported(step, message):
    with pytest.raises(ValueError, match=message):
        settings_of([SAMPLE, step, *TAIL], size=(32, 32))
