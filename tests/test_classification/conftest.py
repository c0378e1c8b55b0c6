# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Leave these tests out where mmpretrain is not installed."""
import importlib.util

import pytest
from tiny import make_image_folder

collect_ignore_glob = [] if importlib.util.find_spec('mmpretrain') else [
    'test_*'
]


@pytest.fixture
def root(tmp_path):
    """An image folder to change."""
    return make_image_folder(tmp_path / 'images')


@pytest.fixture(autouse=True)
def in_the_hosts_scope(default_scope):
    """Find bare names in the host's registries."""
