# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Leave these tests out where mmdet or mmcv's operators are missing."""
import importlib.util

HOST = importlib.util.find_spec('mmdet') and importlib.util.find_spec(
    'mmcv._ext')
collect_ignore_glob = [] if HOST else ['test_*']
if HOST:
    import mmdynperceiver.detection  # noqa: F401  (registers its types)
