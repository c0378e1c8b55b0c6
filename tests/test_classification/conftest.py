# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Leave these tests out where mmpretrain is not installed."""
import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec('mmpretrain') else [
    'test_*'
]
