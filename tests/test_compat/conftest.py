# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Each patch is tried with and without: without, it must be broken.

OneDL's fork has mended some of it; there the patch must do no harm.
"""
import importlib.metadata
import importlib.util

import pytest

PATCH = 'import mmdynperceiver\n'


def require(*modules):
    """Skip where a host package is not installed."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed')


def on_fork():
    """Whether the hosts are those of OneDL."""
    try:
        return bool(importlib.metadata.version('onedl-mmengine'))
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.fixture
def run_ok(run_python):
    """Runs code that must not fail."""

    def run(code, **kwargs):
        result = run_python(code, **kwargs)
        assert result.returncode == 0, result.stderr
        return result

    return run


@pytest.fixture
def assert_patches(run_python, run_ok):
    """Asserts that code fails, and does not after importing us."""

    def check(code, **kwargs):
        broken = run_python(code, **kwargs)
        run_ok(PATCH + code, **kwargs)
        if not broken.returncode and on_fork():
            pytest.skip("mended in OneDL's fork")
        assert broken.returncode, 'nothing is broken here'
        return broken

    return check
