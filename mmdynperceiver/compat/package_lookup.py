# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Let mmengine <= 0.10.7 and mim locate packages, this one included."""
from __future__ import annotations
import contextlib
import functools
import importlib.util
import os.path as osp
import sys
from types import ModuleType

PACKAGE = __name__.partition('.')[0]


def is_installed(package: str) -> bool:
    """Tell whether a distribution, or a regular package, is installed.

    Args:
        package (str): Name of a distribution or of an importable package.

    Returns:
        bool: True if there is one.
    """
    from importlib.metadata import PackageNotFoundError, distribution
    try:
        distribution(package)
        return True
    except PackageNotFoundError:
        return _regular_package(package) is not None


def get_installed_path(package: str) -> str:
    """Locate the folder of an installed package.

    Args:
        package (str): Name of a distribution (``mmaction2``) or of a package.

    Returns:
        str: Path of the package's folder.

    Raises:
        ModuleNotFoundError: If nothing of that name is installed.
        RuntimeError: If it is a namespace package, which has no one folder.
    """
    from importlib.metadata import PackageNotFoundError, distribution
    try:
        dist = distribution(package)
    except PackageNotFoundError:
        if importlib.util.find_spec(package) is None:
            raise
        path = _regular_package(package)
        if path is None:
            raise RuntimeError(
                f'{package} is a namespace package, which is invalid for '
                '`get_install_path`') from None
        return path
    path = osp.join(str(dist.locate_file('')), package)
    if osp.exists(path):
        return path
    module = package2module(package)
    # An editable install keeps its code elsewhere: ask the import system.
    return _regular_package(module) or osp.join(
        str(dist.locate_file('')), module)


def package2module(package: str) -> str:
    """Infer the name to import from the name of the distribution.

    Args:
        package (str): Name of an installed distribution.

    Returns:
        str: The first of its top-level modules.

    Raises:
        ValueError: If the distribution does not tell.
    """
    from importlib.metadata import distribution
    top_level = distribution(package).read_text('top_level.txt')
    if not top_level or not top_level.strip():
        raise ValueError(f'can not infer the module name of {package}')
    return top_level.split()[0]


def _regular_package(name: str) -> str | None:
    """Return the folder of a package that has an ``__init__``, or None."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    return osp.dirname(spec.origin)


def _pkg_resources_missing() -> bool:
    """Tell, without importing it: that alone takes half a second."""
    return importlib.util.find_spec('pkg_resources') is None


def _uses_pkg_resources(module: ModuleType) -> bool:
    """Tell mmengine <= 0.10.7 from later ones, which do without."""
    function = getattr(module, 'is_installed', None)
    code = getattr(function, '__code__', None)
    return code is not None and 'pkg_resources' in code.co_names


@contextlib.contextmanager
def patch_package_utils(module: ModuleType):
    """Replace ``pkg_resources``, which setuptools 82 no longer brings.

    Without it ``_base_ = 'mmpretrain::...'``, ``get_config`` and ``get_model``
    fail. With it they work, except that a PEP 660 editable install of this
    package is looked for in site-packages; so this name alone is answered
    here.
    """
    yield
    if not _uses_pkg_resources(module):
        return
    if _pkg_resources_missing():
        replacements = (is_installed, get_installed_path, package2module)
    else:
        replacements = (_answer_for_this_package(module.get_installed_path), )
    for function in replacements:
        _replace(module, function)


def _answer_for_this_package(original):
    """Wrap ``get_installed_path`` to know where this package lives."""
    if hasattr(original, 'knows_this_package'):
        return original

    @functools.wraps(original)
    def locate(package: str) -> str:
        if package == PACKAGE:
            return get_installed_path(package)
        return original(package)

    locate.knows_this_package = True
    return locate


def _replace(module: ModuleType, function) -> None:
    """Put a function in place, also where mmengine imported it by name."""
    name = function.__name__
    original = getattr(module, name)
    for other_name, other in list(sys.modules.items()):
        if (other_name.partition('.')[0] == 'mmengine'
                and vars(other).get(name) is original):
            setattr(other, name, function)
    setattr(module, name, function)


@contextlib.contextmanager
def patch_mim(module: ModuleType):
    """Let mim find an editable install, which it looks for in site-packages.

    mim does not import what it looks for: an editable install has Python do
    so when mim starts (see setup.py).
    """
    yield
    module.get_installed_path = (  # type: ignore[attr-defined]
        _answer_for_this_package(module.get_installed_path))


@contextlib.contextmanager
def register_package(module: ModuleType):
    """Make ``_base_ = 'mmdynperceiver::...'`` resolve.

    mmengine accepts only the packages that it lists in MODULE2PACKAGE.
    """
    yield
    known = getattr(module, 'MODULE2PACKAGE', None)
    if known is not None:
        known.setdefault(PACKAGE, PACKAGE)
