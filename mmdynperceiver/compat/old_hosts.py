# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Let mmaction2 1.2.0 and mmdet 3.3.0 import as they were published."""
from __future__ import annotations
import importlib.util
import re
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType

from .import_hooks import around_import

_DRN_PACKAGE = 'mmaction.models.localizers.drn'
_DRN_MODULE = f'{_DRN_PACKAGE}.drn'
# The highest version of mmcv that both packages accept.
_ACCEPTED = '2.1.0'


@around_import('mmaction', 'mmdet')
def lift_mmcv_limit(module: ModuleType):
    """Hide the version of mmcv 2.2 or 2.3 from an upper-bound assertion.

    Both packages assert mmcv < 2.2.0 in their ``__init__``, though nothing
    they use was changed by then (mmpretrain accepts < 2.4.0). mmcv 2.2.0 is
    the only release with ready-made wheels for torch 2.3 and 2.4. The version
    is replaced only while that one small file runs.
    """
    try:
        import mmcv
        version = mmcv.__version__
    except Exception:  # the host reports it better than this could
        version = ''
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


@around_import('mmaction.utils.dependency')
def provide_importlib_metadata(module: ModuleType):
    """Lend the standard library's ``importlib.metadata`` to one module.

    mmaction2 imports the backport without declaring it. Python >= 3.10 has
    the same functions; other packages that probe for the backport must not
    see it, so the name exists only while ``mmaction.utils.dependency`` runs.
    """
    name = 'importlib_metadata'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        yield
        return
    from importlib import metadata
    sys.modules[name] = metadata
    try:
        yield
    finally:
        sys.modules.pop(name, None)


class DRNPlaceholderFinder:
    """Offer ``mmaction.models.localizers.drn`` where the wheel lacks it.

    The folder has no ``__init__.py``, so that the wheel of mmaction2 1.2.0
    was built without it while ``mmaction.models`` still imports it. This
    finder stands last in ``sys.meta_path``: it is asked only when the real
    module cannot be found.
    """

    def find_spec(self, fullname, path=None, target=None):
        """See :meth:`importlib.abc.MetaPathFinder.find_spec`."""
        if fullname not in (_DRN_PACKAGE, _DRN_MODULE):
            return None
        return ModuleSpec(fullname, self, is_package=fullname == _DRN_PACKAGE)

    def create_module(self, spec):
        """Leave the creation of the module to Python."""
        return None

    def exec_module(self, module):
        """Fill the placeholder module with a class that explains itself."""
        if module.__name__ == _DRN_MODULE:
            from mmaction.registry import MODELS
            MODELS.register_module(name='DRN', module=DRN, force=True)
            module.DRN = DRN


class DRN:
    """Placeholder of a localizer that the installed wheel lacks."""

    def __init__(self, *args, **kwargs) -> None:
        raise ImportError(
            'the installed mmaction2 lacks the localizer DRN (its wheel was '
            'published without it); install mmaction2 from a source checkout '
            'with `pip install -e .` to use DRN')


def install_drn_placeholder() -> None:
    """Put the finder last in line; calling it again changes nothing."""
    if not any(isinstance(f, DRNPlaceholderFinder) for f in sys.meta_path):
        sys.meta_path.append(DRNPlaceholderFinder())
