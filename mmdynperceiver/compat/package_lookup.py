# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Let mmengine <= 0.10.7 and mim locate packages, this one included."""
from __future__ import annotations
import functools
import importlib.util
import os.path as osp
from types import ModuleType
from typing import Any

from .import_hooks import after_import, replace_everywhere

PACKAGE = __name__.partition('.')[0]


def _distribution(name: str) -> Any:
    """What is installed under a name, else a ModuleNotFoundError."""
    from importlib.metadata import distribution  # takes long to import
    return distribution(name)


def is_installed(package: str) -> bool:
    """Tell whether a distribution, or a regular package, is installed."""
    try:
        return _distribution(package) is not None
    except ModuleNotFoundError:
        return _folder(package) is not None


def get_installed_path(package: str) -> str:
    """Locate the folder of a package, or of a distribution (``mmaction2``).

    Raises:
        ModuleNotFoundError: If nothing of that name is installed, or only a
            namespace package, which has no one folder.
    """
    try:
        root = str(_distribution(package).locate_file(''))
    except ModuleNotFoundError:
        found = _folder(package)
        if found is None:
            raise
        return found
    path = osp.join(root, package)
    if osp.exists(path):
        return path
    module = package2module(package)
    # An editable install keeps its code elsewhere: ask the import system.
    return _folder(module) or osp.join(root, module)


def package2module(package: str) -> str:
    """Infer the name to import from the name of the distribution."""
    top_level = _distribution(package).read_text('top_level.txt')
    if not top_level or not top_level.strip():
        raise ValueError(f'can not infer the module name of {package}')
    return top_level.split()[0]


def _folder(name: str) -> str | None:
    """Return the folder of a package that has an ``__init__``, or None."""
    spec = importlib.util.find_spec(name)
    return osp.dirname(spec.origin) if spec and spec.origin else None


@after_import('mmengine.utils.package_utils')
def patch_package_utils(module: ModuleType) -> None:
    """Replace ``pkg_resources``, which setuptools 82 no longer brings.

    Without it ``_base_ = 'mmpretrain::...'``, ``get_config`` and ``get_model``
    fail. With it they work, except that a PEP 660 editable install of this
    package is looked for in site-packages; so this name alone is answered
    here.
    """
    code = getattr(module.is_installed, '__code__', None)
    if code is None or 'pkg_resources' not in code.co_names:
        return  # a later mmengine, which does without
    # Not imported: that alone takes half a second.
    if importlib.util.find_spec('pkg_resources') is None:
        for function in (is_installed, get_installed_path, package2module):
            replace_everywhere(module, function)
        return
    with patch_get_installed_path(module):
        pass


# mim does not import what it looks for: an editable install has Python do so
# when mim starts (see setup.py).
@after_import('mim.utils.utils')
def patch_get_installed_path(module: ModuleType) -> None:
    """Let ``get_installed_path`` know where this package lives."""
    original = module.get_installed_path

    @functools.wraps(original)
    def locate(package: str) -> str:
        return (get_installed_path if package == PACKAGE else original)(
            package)

    replace_everywhere(module, locate)


@after_import('mmengine.config.utils')
def register_package(module: ModuleType) -> None:
    """Make ``_base_ = 'mmdynperceiver::...'`` resolve.

    mmengine accepts only the packages that it lists in MODULE2PACKAGE.
    """
    getattr(module, 'MODULE2PACKAGE', {}).setdefault(PACKAGE, PACKAGE)
