# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A tiny data set, its config, and a trained model."""
import contextlib
import importlib.util
import io
import itertools
import re
import shutil

import pytest
from tiny import CONFIG, make_image_folder, run_tool, split_lines

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
        output = io.StringIO()
        with contextlib.redirect_stdout(output), \
                contextlib.redirect_stderr(output):
            error = run_tool(name, *args)
        return output.getvalue(), error

    return run


@pytest.fixture(scope='session')
def trained(tmp_path_factory, config, tool):
    """Train for an epoch in mixed precision; returns the work folder."""
    work_dir = tmp_path_factory.mktemp('work')
    _, error = tool('train', config(), '--work-dir', work_dir, '--amp')
    assert error is None
    return work_dir


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    """Images with a test split of its own; more to hold some out of."""
    root = tmp_path_factory.mktemp('splits')
    return make_image_folder(root, 4, ['train', 'val', 'test'])


@pytest.fixture(scope='session')
def of_many_minds(trained):
    """A checkpoint of the trained model whose exits are not all of one mind,
    without what a training goes on with, which takes time to read."""
    import torch

    from mmdynperceiver.io.checkpoint_file import read_checkpoint
    content = dict(read_checkpoint(trained / 'epoch_1.pth'))
    for name in ('optimizer', 'param_schedulers', 'message_hub'):
        del content[name]
    weights = content['state_dict'] = dict(content['state_dict'])
    generator = torch.Generator().manual_seed(0)
    pattern = re.compile(r'head\.exits\.classifiers\..*weight')
    for name in [n for n in weights if pattern.match(n)]:
        weights[name] = torch.randn(
            weights[name].shape, generator=generator) / 3
    path = trained / 'of_many_minds.pth'
    torch.save(content, path)
    return path


@pytest.fixture
def checkpoint(of_many_minds, tmp_path):
    """A copy of it."""
    return shutil.copy(of_many_minds, tmp_path / 'model.pth')


@pytest.fixture
def calibrate(config, tool, checkpoint, folder, tmp_path):
    """Run the tool; returns its output, error and the operating point."""

    from mmdynperceiver.core import OperatingPoint

    def run(*options, cfg=(), more='', path=checkpoint):
        args = [] if path is None else [path]
        output, error = tool('calibrate', config(split_lines(folder) + more),
                             *args, '--work-dir', tmp_path / 'work', *options,
                             *(['--cfg-options', *cfg] if cfg else []))
        written = tmp_path / 'model.operating_point.json'
        point = OperatingPoint.load(written) if written.exists() else None
        return output, error, point

    return run
