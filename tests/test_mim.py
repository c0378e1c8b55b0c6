# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""mim and MMPretrain's own tools on an installed package.

The environment has no trace of the checkout: it has the packages of ``.venv``
but this one.
"""
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml
from tiny import ROOT, make_image_folder

pytest.importorskip('mmpretrain')
# Not by importing it, which makes a folder where another worker may be making
# the same one.
if importlib.util.find_spec('mim') is None:
    pytest.skip(
        'there is no openmim: `make test` installs it',
        allow_module_level=True)

NAME = 'mmdynperceiver'
CONFIG = 'dyn-perceiver_resnet22-w025_1xb128_digits'
IMAGENET = 'dyn-perceiver_regnety-800mf_8xb128_in1k'
SHIPPED = ('setup.py', 'setup.cfg', 'MANIFEST.in', 'LICENSE', 'README.md',
           'requirements', 'configs', 'tools', NAME, 'model-index.yml')
SITE_PACKAGES = Path(sysconfig.get_path('purelib'))


class Machine:
    """A virtual environment in which commands run.

    Args:
        folder (Path): Where it is made; commands run in ``folder/work``.
    """

    def __init__(self, folder):
        self.work = folder / 'work'
        self.work.mkdir()
        layer = folder / 'layer'
        layer.mkdir()
        for path in SITE_PACKAGES.iterdir():
            if not path.name.startswith(
                (NAME, '__editable__')) and path.suffix != '.pth':
                (layer / path.name).symlink_to(path)
        venv.create(folder / 'venv', symlinks=True)
        self.python = folder / 'venv/bin/python'
        self.site_packages = next(folder.glob('venv/lib/*/site-packages'))
        (self.site_packages / 'layer.pth').write_text(f'{layer}\n')

    def run(self, *command, fails=False):
        """Run Python with arguments; returns what it printed."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(('PYTHON', 'PIP_'))
        }
        environment.update(
            OMP_NUM_THREADS='1',
            PYTHONWARNINGS='ignore',
            PIP_NO_INDEX='1',
            # mim adds mmcv's own index
            MMCV_BASE_URL=(self.work / 'no-index').as_uri())
        result = subprocess.run(
            [str(part) for part in (self.python, *command)],
            cwd=self.work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300)
        output = result.stdout + result.stderr
        assert bool(result.returncode) == fails, output[-5000:]
        return output

    def mim(self, *command, **kwargs):
        """Run mim."""
        return self.run('-m', 'mim', *command, **kwargs)


def copy_sources(folder):
    """Copy what an installation needs."""
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns('__pycache__', '.mim')
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            shutil.copy2(source, folder / name)
    return folder


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """An environment with the package from a wheel."""
    folder = tmp_path_factory.mktemp('wheel')
    sources = folder / 'sources'
    sources.mkdir()
    machine = Machine(folder)
    machine.run('-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation',
                '--wheel-dir', folder, copy_sources(sources))
    wheel = next(folder.glob('*.whl'))
    shutil.rmtree(sources)
    # mmengine asks for another OpenCV than the one that is there
    output = machine.mim('install', '--no-deps', wheel)
    assert 'Successfully installed mmdynperceiver' in output
    make_image_folder(machine.work / 'data', 2, ['train', 'val', 'test'])
    return machine


OPTIONS = ('--cfg-options', 'model.head.num_classes=3',
           'data_preprocessor.num_classes=3', 'train_cfg.max_epochs=2',
           *(f'{name}_dataloader.num_workers=0'
             for name in ('train', 'val', 'test')))


@pytest.fixture(scope='module')
def trained(installed):
    """Train with mim; the config is found by its name."""
    output = installed.mim('train', NAME, f'{CONFIG}.py', '--gpus', 0,
                           '--work-dir', 'train', *OPTIONS, 'data_root=data')
    assert 'Training finished successfully' in output
    return installed.work / 'train/epoch_2.pth'


def test_mim_tests(installed, trained):
    output = installed.mim('test', NAME, f'{CONFIG}.py', '--checkpoint',
                           trained, '--gpus', 0, '--work-dir', 'test',
                           *OPTIONS, 'data_root=data')
    assert 'Testing finished successfully' in output
    # A row for each exit; the raw metrics are in the log file.
    assert re.search(r'^[^\w\n]*3 +[^\w\n]*\d+\.\d\d', output, re.MULTILINE)


def test_mim_runs_every_tool(installed):
    output = installed.mim(
        'run', NAME, 'convert_official', 'nothing.pth', 'out.pth', fails=True)
    assert "error: no checkpoint file at 'nothing.pth'" in output
    tools = installed.site_packages / NAME / '.mim/tools'
    assert {path.name
            for path in tools.rglob('*.py')} == {
                path.name
                for path in (ROOT / 'tools').rglob('*.py')
                if 'dev' not in path.parts
            }


def test_mim_searches(installed):
    output = installed.mim('search', NAME, '--model', 'dyn-perceiver',
                           '--sort', 'parameters')
    assert f'config id: {IMAGENET}' in output
    output = installed.mim('search', NAME, '--config', IMAGENET, '--field',
                           'exit_flops', 'imagenet-1k/exit_0_top_1_accuracy')
    assert '457938048, 1063488896' in output and '68.62' in output


def test_mim_downloads_the_config(installed):
    installed.mim('download', NAME, '--config', IMAGENET, '--dest', 'got')
    # No file is hosted: the config, whole and in one file.
    names = [path.name for path in (installed.work / 'got').iterdir()]
    assert names == [f'{IMAGENET}.py']
    text = (installed.work / 'got' / names[0]).read_text()
    assert '_base_' not in text and "arch='regnety-800mf'" in text


def test_hosts_own_tools_on_our_config(installed, trained):
    import mmpretrain
    tools = Path(mmpretrain.__file__).parent / '.mim/tools'
    mim = installed.site_packages / NAME / '.mim'
    config = next(mim.glob(f'configs/*/{CONFIG}.py'))
    options = [
        *OPTIONS, *(f'{name}_dataloader.dataset.data_root=data'
                    for name in ('train', 'val', 'test'))
    ]
    installed.run(tools / 'train.py', config, '--work-dir', 'host',
                  '--no-persistent-workers', *options)
    assert (installed.work / 'host/epoch_2.pth').exists()
    output = installed.run(tools / 'test.py', config, trained, '--work-dir',
                           'host', *options,
                           'test_dataloader.persistent_workers=False')
    assert 'exit3/top1' in output


def test_mim_with_an_editable_install(tmp_path):
    """By the pip of today, which makes a PEP 660 wheel."""
    machine = Machine(tmp_path)
    sources = tmp_path / 'sources'
    sources.mkdir()
    machine.mim('install', '--no-deps', '--no-build-isolation', '-e',
                copy_sources(sources))
    assert f'config id: {IMAGENET}' in machine.mim('search', NAME, '--config',
                                                   IMAGENET)
    output = machine.mim(
        'train',
        NAME,
        f'{CONFIG}.py',
        '--gpus',
        0,
        '--work-dir',
        'train',
        '--cfg-options',
        'data_root=nothing',
        fails=True)
    assert f'will use {sources}/configs/demo/{CONFIG}.py' in output
    assert "error: there is no data folder 'nothing'" in output
    # Only mim's own processes import us unasked.
    output = machine.run('-c', f'import sys; print({NAME!r} in sys.modules)')
    assert output == 'False\n'
    machine.run('-m', 'pip', 'uninstall', '-y', NAME)
    assert not list(machine.site_packages.glob(f'*{NAME}*'))


def test_mim_can_read_every_metafile():
    """It joins lists, which must hold words, and wants an entry of weights."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    for name in index['Import']:
        content = yaml.safe_load((ROOT / name).read_text())
        for entry in content['Collections'] + content['Models']:
            for key, value in entry.get('Metadata', {}).items():
                if isinstance(value, list):
                    assert all(isinstance(x, str) for x in value), \
                        f'{name}: {entry["Name"]}: {key}'
        for entry in content['Models']:
            assert entry.get('Weights'), f'{name}: {entry["Name"]}'
