# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Leave these tests out where Matplotlib is not installed."""
import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec('matplotlib') else [
    'test_*'
]
