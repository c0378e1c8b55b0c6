# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dynamic Perceiver for classification, video recognition and detection.

Importing this package is cheap and imports neither torch nor any OpenMMLab
package. It only arranges that known breakages of the OpenMMLab stack are
fixed at the moment the package concerned is imported; see
:mod:`mmdynperceiver.compat`.
"""
from typing import Any

from .compat import install as _install_patches
from .version import __version__

_install_patches()

# Imported when they are asked for: these need torch and a host.
_LATER = dict(
    create_model='core',
    fit='fitting',
    from_pretrained='hub',
    list_models='core')

__all__ = ['__version__', *_LATER]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _LATER:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    return getattr(import_module(f'{__name__}.{_LATER[name]}'), name)
