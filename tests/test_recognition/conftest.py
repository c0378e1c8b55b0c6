# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Leave these tests out where mmaction2 is not installed; tiny videos."""
import importlib.util

import cv2
import numpy as np
import pytest

from projects.digits import write_video

collect_ignore_glob = [] if importlib.util.find_spec('mmaction') else [
    'test_*'
]

VIDEO_LABELS = (0, 1, 2, 0, 1, 2)


def draw_frames(label, number, frames=10, size=32):
    """A square that moves to the right, to the left, or down."""
    rng = np.random.default_rng(number)
    images = rng.integers(0, 60, (frames, size, size, 3)).astype('uint8')
    for t in range(frames):
        x, y = ((4 + 2 * t, 12), (24 - 2 * t, 12), (12, 4 + 2 * t))[label]
        cv2.rectangle(images[t], (x, y), (x + 5, y + 5), (220, 220, 220), -1)
    return images


@pytest.fixture(scope='session')
def videos(tmp_path_factory):
    """Six videos of three classes, and their list."""
    root = tmp_path_factory.mktemp('videos')
    lines = []
    for number, label in enumerate(VIDEO_LABELS):
        write_video(root / f'{number}.avi', draw_frames(label, number))
        lines.append(f'{number}.avi {label}\n')
    (root / 'list.txt').write_text(''.join(lines))
    return root


@pytest.fixture(scope='session')
def more_videos(tmp_path_factory):
    """Videos of other formats and shapes; one is cut off, one is none."""
    folder = tmp_path_factory.mktemp('files')
    rng = np.random.default_rng(0)
    for name, code, (height,
                     width), total in (('upright.mp4', 'mp4v', (62, 44), 11),
                                       ('wide.webm', 'VP80', (46, 70), 9)):
        writer = cv2.VideoWriter(
            str(folder / name), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code),
            10, (width, height))
        for coarse in rng.integers(0, 255, (total, 8, 6, 3)).astype('uint8'):
            writer.write(cv2.resize(coarse, (width, height)))
        writer.release()
    content = (folder / 'wide.webm').read_bytes()
    (folder / 'cut.webm').write_bytes(content[:len(content) * 2 // 3])
    (folder / 'broken.mp4').write_bytes(b'broken')
    return folder


@pytest.fixture(scope='session')
def frame_folders(tmp_path_factory):
    """The same as folders of frames that count from 1."""
    root = tmp_path_factory.mktemp('frames')
    lines = []
    for number, label in enumerate(VIDEO_LABELS):
        (root / str(number)).mkdir()
        frames = draw_frames(label, number)
        for t, frame in enumerate(frames, 1):
            cv2.imwrite(str(root / f'{number}/{t:05d}.jpg'), frame)
        lines.append(f'{number} {len(frames)} {label}\n')
    (root / 'list.txt').write_text(''.join(lines))
    return root


@pytest.fixture(scope='module', autouse=True)
def scope():
    """Names without a scope are MMAction2's, as under a runner.

    For whole modules, so that what their fixtures run leaves no scope behind.
    """
    from mmengine.registry import DefaultScope
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


@pytest.fixture(autouse=True)
def in_the_hosts_scope(default_scope):
    """Find bare names in the host's registries."""
