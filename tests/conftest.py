# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Fixtures that all tests share."""
import gc
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

_num_frozen = 0
# Files that take minutes, so that none of them is the last with one worker.
SLOW = ('test_benchmark', 'test_service', 'test_robustness', 'test_calibrate',
        'test_hosts', 'test_model_zoo', 'test_mim', 'test_run', 'test_runner',
        'test_documented_runs', 'test_documented_pages',
        'test_calibrate_detector', 'test_compiled', 'test_safe_loading',
        'test_small_data')


def pytest_collection_modifyitems(items):
    """Begin with the slow files."""
    items.sort(key=lambda item: item.path.stem not in SLOW)


def pytest_runtest_logfinish():
    """Collect no garbage among the modules that stay, the hosts' above all.

    Each data set of mmengine asks for a collection of everything.
    """
    global _num_frozen
    if len(sys.modules) > _num_frozen + 100:
        gc.collect()
        gc.freeze()
        _num_frozen = len(sys.modules)


@pytest.fixture(autouse=True)
def seeded():
    """Start every test from the same random state, with so many threads."""
    random.seed(0)
    for name in ('numpy', 'torch'):  # seeded only where they are in use
        module = sys.modules.get(name)
        if name == 'numpy' and module is not None:
            module.random.seed(0)
        elif module is not None:
            module.manual_seed(0)
            # A tool's --threads holds for the process.
            module.set_num_threads(int(os.environ['OMP_NUM_THREADS']))


@pytest.fixture(autouse=True)
def plain_configs():
    """Do not lay out the configs that are logged and dumped: yapf takes a
    third of a tool's time. Tools in processes of their own do it."""
    config = sys.modules.get('mmengine.config.config')
    if config is not None:
        config.FormatCode = lambda text, *args, **kwargs: (text, True)


@pytest.fixture(autouse=True)
def no_default_scope():
    """Start and end every test without a default scope.

    A runner or a tool sets one for the process, be it in another file's test
    or in a fixture of the session.
    """
    _forget_default_scope()
    yield
    _forget_default_scope()


def _forget_default_scope():
    """Forget the default scope, if mmengine is in use."""
    registry = sys.modules.get('mmengine.registry')
    if registry is not None:
        registry.DefaultScope._instance_dict.clear()


@pytest.fixture
def default_scope(request):
    """Work in the scope of the host that the test's folder is about."""
    from mmengine.registry import DefaultScope
    folder = request.path.parent.name
    host = dict(
        test_classification='mmpretrain',
        test_recognition='mmaction',
        test_detection='mmdet')[folder]
    with DefaultScope.overwrite_default_scope(host):
        yield host


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
