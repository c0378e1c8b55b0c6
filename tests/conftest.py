# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Fixtures that all tests share."""
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# For tests of this size, in processes that tests start too, one thread is
# enough; several would wait for each other whenever the machine is busy.
os.environ.setdefault('OMP_NUM_THREADS', '1')


@pytest.fixture(autouse=True)
def seeded():
    """Start every test from the same random state."""
    random.seed(0)
    for name in ('numpy', 'torch'):  # seeded only where they are in use
        module = sys.modules.get(name)
        if name == 'numpy' and module is not None:
            module.random.seed(0)
        elif module is not None:
            module.manual_seed(0)


@pytest.fixture(autouse=True)
def scope_put_back():
    """Undo the default scope that a runner or a tool has set in the test."""
    registry = sys.modules.get('mmengine.registry')
    scopes = registry.DefaultScope._instance_dict if registry else {}
    before = dict(scopes)
    yield
    if registry is None and 'mmengine.registry' in sys.modules:
        scopes = sys.modules['mmengine.registry'].DefaultScope._instance_dict
    scopes.clear()
    scopes.update(before)


@pytest.fixture
def repo_root():
    """Return the folder of the checkout."""
    return ROOT


@pytest.fixture
def run_python(tmp_path):
    """Run Python code in a process of its own.

    Returns a function of the code, of folders to import from before all
    others, of whether installed packages are visible, and of the folder to
    run in. It gives a ``subprocess.CompletedProcess`` with text.
    """

    def run(code, paths=(), site_packages=True, cwd=tmp_path, timeout=300):
        environment = dict(os.environ)
        environment.update(
            PYTHONPATH=os.pathsep.join([*map(str, paths),
                                        str(ROOT)]),
            OMP_NUM_THREADS='1')
        options = ['-W', 'ignore'] + ([] if site_packages else ['-S'])
        return subprocess.run([sys.executable, *options, '-c', code],
                              env=environment,
                              cwd=str(cwd),
                              stdin=subprocess.DEVNULL,
                              capture_output=True,
                              text=True,
                              timeout=timeout)

    return run


@pytest.fixture
def make_files(tmp_path):
    """Write files from a dict of relative paths and texts.

    Returns a function that gives the folder that holds them.
    """

    def make(files, folder='fake'):
        root = tmp_path / folder
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    return make
