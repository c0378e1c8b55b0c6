# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Let MMPretrain's vis_tsne.py use scikit-learn 1.7 and later."""
from __future__ import annotations
import contextlib
import functools
import inspect
from types import ModuleType


@contextlib.contextmanager
def accept_n_iter(module: ModuleType):
    """Take ``n_iter``, the name that ``max_iter`` had before."""
    yield
    original = module.TSNE.__init__
    if 'n_iter' in inspect.signature(original).parameters or \
            hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def init(self, *args, n_iter=None, **kwargs):
        if n_iter is not None:
            kwargs['max_iter'] = n_iter
        original(self, *args, **kwargs)

    module.TSNE.__init__ = init
