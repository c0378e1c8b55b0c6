# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Leave these tests out where mmengine is not installed."""
import importlib.util

import pytest

collect_ignore_glob = [] if importlib.util.find_spec('mmengine') else [
    'test_*'
]


@pytest.fixture(scope='package')
def trained(tmp_path_factory):
    """A work folder with the checkpoints of two epochs."""
    from tiny_training import train
    folder = tmp_path_factory.mktemp('trained')
    train(folder, 2, max_keep_ckpts=3)
    return folder
