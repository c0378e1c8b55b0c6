# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A tiny data set, its config, and a trained model."""
import contextlib
import importlib.util
import io
import itertools
import sys

import pytest
from tiny import CONFIG, ROOT, make_image_folder

collect_ignore_glob = [] if importlib.util.find_spec('mmpretrain') else [
    'test_*'
]


@pytest.fixture(scope='session')
def images(tmp_path_factory):
    """Nine images to train on, so that batches of four leave one; 6 more."""
    root = make_image_folder(tmp_path_factory.mktemp('images'), 3, ['train'])
    return make_image_folder(root, 2, ['val'])


@pytest.fixture(scope='session')
def config(tmp_path_factory, images):
    """Write a config of a name of its own for each call.

    mmengine keeps one state for each name and second.
    """
    folder = tmp_path_factory.mktemp('configs')
    count = itertools.count()

    def write(more=''):
        path = folder / f'config{next(count)}.py'
        roots = ''.join(
            f"{name}_dataloader['dataset']['data_root'] = {str(images)!r}\n"
            for name in ('train', 'val', 'test'))
        path.write_text(CONFIG + roots + more)
        return str(path)

    return write


@pytest.fixture(scope='session')
def tool():
    """Run a tool in this process; returns its output and error line."""

    def run(name, *args):
        spec = importlib.util.spec_from_file_location(
            f'tool_{name}', ROOT / 'tools' / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        output, error, old = io.StringIO(), None, sys.argv
        sys.argv = [name, *map(str, args)]
        try:
            with contextlib.redirect_stdout(output), \
                    contextlib.redirect_stderr(output):
                module.cli.run_tool(module.main)
        except SystemExit as stop:
            error = stop.code
        finally:
            sys.argv = old
        return output.getvalue(), error

    return run


@pytest.fixture(scope='session')
def trained(tmp_path_factory, config, tool):
    """Train for an epoch in mixed precision; returns the work folder."""
    work_dir = tmp_path_factory.mktemp('work')
    _, error = tool('train', config(), '--work-dir', work_dir, '--amp')
    assert error is None
    return work_dir
