# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Let mmdet 3.3.0 and mmaction2 1.2.0 import beside mmcv 2.2 and later."""
from __future__ import annotations
import contextlib
import re
import warnings
from types import ModuleType

# The highest version that both packages accept, shown to them instead.
_ACCEPTED = '2.1.0'


@contextlib.contextmanager
def lift_mmcv_limit(module: ModuleType):
    """Hide the version of mmcv 2.2 or 2.3 from an upper-bound assertion.

    Both packages assert mmcv < 2.2.0 in their ``__init__``, though nothing
    they use was changed by then (mmpretrain accepts < 2.4.0). mmcv 2.2.0 is
    the only release with ready-made wheels for torch 2.3 and 2.4. The version
    is replaced only while that one small file runs.
    """
    try:
        import mmcv
    except Exception:  # the host reports it better than this could
        yield
        return
    version = getattr(mmcv, '__version__', '')
    if not re.match(r'2\.[23]\.', version):
        yield
        return
    warnings.warn(
        f'{module.__name__} was released for mmcv < 2.2.0 and is imported '
        f'with mmcv {version}; if something fails there, install mmcv 2.1.0')
    mmcv.__version__ = _ACCEPTED
    try:
        yield
    finally:
        mmcv.__version__ = version
