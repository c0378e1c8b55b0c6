# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Let grad-cam, and so MMPretrain's vis_cam.py, look at early-exit models."""
from __future__ import annotations
import contextlib
import functools
from types import ModuleType


@contextlib.contextmanager
def explain_last_exit(module: ModuleType):
    """Give grad-cam the logits of the last exit.

    A classifier with exits returns a tuple of logits, shallow to deep, where
    grad-cam expects one tensor. Other models are left alone.
    """
    yield
    kind = module.ActivationsAndGradients
    if not hasattr(kind.__call__, '__wrapped__'):
        kind.__call__ = _take_last_exit(kind.__call__)


def _take_last_exit(call):
    """Wrap the call of the model."""

    @functools.wraps(call)
    def wrapped(self, *args, **kwargs):
        logits = call(self, *args, **kwargs)
        has_exits = hasattr(self.model, 'evaluate_all_exits')
        return logits[-1] if has_exits else logits

    return wrapped
