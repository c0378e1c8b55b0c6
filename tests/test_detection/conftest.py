# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Leave these tests out where mmdet or mmcv's operators are missing."""
import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec(
    'mmdet') and importlib.util.find_spec('mmcv._ext') else ['test_*']
