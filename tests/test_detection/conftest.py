# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Leave these tests out where mmdet or mmcv's operators are missing."""
import importlib.util

import pytest

HOST = importlib.util.find_spec('mmdet') and importlib.util.find_spec(
    'mmcv._ext')
collect_ignore_glob = [] if HOST else ['test_*']
if HOST:
    import mmdynperceiver.detection  # noqa: F401  (registers its types)


@pytest.fixture(autouse=True)
def in_the_hosts_scope(default_scope):
    """Find bare names in the host's registries."""
