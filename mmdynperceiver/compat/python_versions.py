# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Lend the stack what later versions of Python no longer have."""
from __future__ import annotations
import importlib.util
import pkgutil
from types import ModuleType, SimpleNamespace
from typing import Any

from .import_hooks import after_import


def find_loader(name: str) -> Any:
    """The loader of a module, None if there is no such module; see ``pkgutil``
    of Python 3.13 and earlier."""
    spec = importlib.util.find_spec(name)
    return None if spec is None else spec.loader


@after_import('mmengine.utils.dl_utils.misc', 'mmcv.utils.ext_loader')
def lend_find_loader(module: ModuleType) -> None:
    """Give two modules ``pkgutil.find_loader``, gone from Python 3.14.

    They ask by it, and by nothing else of ``pkgutil``, whether mmcv has its
    operators: for ``revert_sync_batchnorm``, every ``paramwise_cfg``, and
    when mmcv-lite is imported.
    """
    if not hasattr(pkgutil, 'find_loader'):
        setattr(module, 'pkgutil', SimpleNamespace(find_loader=find_loader))
