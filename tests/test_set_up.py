# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The set-up of .venv, with a stand-in for uv and a mmcv of few files."""
import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest


class Checkout:
    """A copy of a checkout, in whose .venv uv only notes how it is called."""

    def __init__(self, source, folder):
        self.folder = folder
        for name in ('requirements', 'tools/dev'):
            shutil.copytree(source / name, folder / name)
        (folder / 'mmdynperceiver' / '.mim').mkdir(parents=True)
        for name in ('setup.py', 'mmdynperceiver/version.py'):
            shutil.copy2(source / name, folder / name)
        pins = (folder / 'requirements' / 'constraints.txt').read_text()
        uv = 'uv ' + re.search('^uv==(.*)', pins, re.MULTILINE).group(1)
        bin = folder / '.venv' / 'bin'
        bin.mkdir(parents=True)
        self.script(bin / 'python', f'exec {sys.executable} "$@"')
        self.script(
            bin / 'uv', f'[ "$1" != --version ] || exec echo "{uv} (x)"\n'
            f'echo "PYTHONPATH=$PYTHONPATH $*" >>{folder}/calls')
        (folder / '.venv' / 'pyvenv.cfg').touch()
        self.site = folder / '.venv/lib/python3.11/site-packages'
        self.site.mkdir(parents=True)

    @staticmethod
    def script(path, text):
        """Write a script of bash."""
        path.write_text(f'#!/bin/bash\n{text}\n')
        path.chmod(0o755)

    def add(self, name, files=('RECORD', 'INSTALLER')):
        """Add the metadata of a distribution."""
        folder = self.site / f'{name}.dist-info'
        folder.mkdir()
        for file in files:
            (folder / file).touch()
        return folder

    def set_up(self, profile='demo', **variables):
        """Run the set-up; returns its result and the calls of uv."""
        calls = self.folder / 'calls'
        calls.write_text('')
        result = subprocess.run([self.folder / 'tools/dev/set_up.sh', profile],
                                env={
                                    **os.environ,
                                    **variables
                                },
                                stdin=subprocess.DEVNULL,
                                capture_output=True,
                                text=True,
                                timeout=120)
        return result, calls.read_text().splitlines()


@pytest.fixture
def checkout(repo_root, tmp_path):
    return Checkout(repo_root, tmp_path)


def test_second_run_does_nothing_until_the_pins_change(checkout):
    result, calls = checkout.set_up()
    assert result.returncode == 0, result.stderr
    assert len(calls) == 2
    assert '-r requirements/demo.txt mmcv-lite' in calls[0]
    assert calls[1].endswith('--no-deps --no-build-isolation -e .')
    result, calls = checkout.set_up()
    assert (result.returncode, calls) == (0, [])
    with open(checkout.folder / 'requirements/constraints.txt', 'a') as file:
        file.write('extra==1.0\n')
    assert len(checkout.set_up()[1]) == 2


def test_failed_installation_is_not_taken_for_done(checkout):
    uv = checkout.folder / '.venv/bin/uv'
    works = uv.read_text()
    uv.write_text(works + 'exit 2\n')
    result, _ = checkout.set_up()
    assert result.returncode == 1
    assert 'run the same command again' in result.stderr.splitlines()[-1]
    uv.write_text(works)
    assert len(checkout.set_up()[1]) == 2


def test_settings_of_pip_are_handed_to_uv(checkout, tmp_path):
    config = tmp_path / 'pip.conf'
    config.write_text('[global]\nindex-url = https://file/simple\n'
                      'trusted-host = one.example\n two.example\n')
    _, calls = checkout.set_up(
        PIP_CONFIG_FILE=str(config),
        PIP_INDEX_URL='https://variable/simple',
        PIP_EXTRA_INDEX_URL='https://a/simple https://b/simple',
        PYTHONPATH='/elsewhere')
    for option in ('--index-url https://variable/simple',
                   '--extra-index-url https://a/simple',
                   '--extra-index-url https://b/simple',
                   '--trusted-host one.example', '--trusted-host two.example'):
        assert f' {option} ' in calls[0]
    assert calls[0].startswith('PYTHONPATH= ') and '/file/' not in calls[0]


def test_an_index_for_torch(checkout):
    """It comes beside the others, and another one sets up again."""
    _, calls = checkout.set_up(TORCH_INDEX='https://cpu/simple')
    assert ' --extra-index-url https://cpu/simple ' in calls[0]
    assert checkout.set_up(TORCH_INDEX='https://cpu/simple')[1] == []
    assert 'https://cpu' not in checkout.set_up()[1][0]


def test_test_profile_replaces_mmcv_lite(checkout):
    lite = checkout.add('mmcv_lite-2.1.0')
    (checkout.folder / 'tools/dev/build_mmcv.py').write_text('print("a.whl")')
    result, calls = checkout.set_up('test')
    assert result.returncode == 0, result.stderr
    assert '-r requirements/dev.txt' in calls[0]
    assert 'pip uninstall' in calls[1] and calls[1].endswith(' mmcv-lite')
    assert calls[2].endswith('--no-deps a.whl')
    assert checkout.set_up('demo')[1] == []  # it has all of the demo's
    shutil.rmtree(lite)
    checkout.add('mmcv-2.1.0')
    (checkout.folder / '.venv/.ready').unlink()
    assert 'mmcv-lite' not in ''.join(checkout.set_up('demo')[1])


def test_half_installed_packages_are_removed(checkout):
    whole = checkout.add('whole-1.0')
    halves = [
        checkout.add('by_pip-1.0', ['INSTALLER']),
        checkout.add('by_uv-1.0', ['RECORD'])
    ]
    checkout.set_up()
    assert whole.exists() and not any(half.exists() for half in halves)


def test_foreign_folder_is_not_replaced(checkout):
    (checkout.folder / '.venv/pyvenv.cfg').unlink()
    checkout.script(checkout.folder / '.venv/bin/python', 'exit 1')
    result, _ = checkout.set_up(PYTHON=sys.executable)
    assert result.returncode == 1 and 'move it away' in result.stderr
    assert (checkout.folder / '.venv/bin/uv').exists()


def test_full_disk_is_said_before_anything_is_removed(checkout, tmp_path):
    checkout.script(checkout.folder / '.venv/bin/python', 'exit 1')
    checkout.script(tmp_path / 'df',
                    'printf "head\n/dev/x 9 7 2000000 78%% /\n"')
    result, calls = checkout.set_up(
        PYTHON=sys.executable, PATH=f'{tmp_path}:{os.environ["PATH"]}')
    assert result.returncode == 1 and calls == []
    line, = result.stderr.splitlines()
    assert '2 GB are free' in line and str(checkout.folder) in line
    assert (checkout.folder / '.venv/bin/uv').exists()


@pytest.mark.parametrize(
    'profile, version, expected',
    [('demo', '3.9', '3.10 3.11 3.12 3.13 3.14 with venv'),
     ('test', '3.13', '3.10 3.11 3.12 with venv'),
     ('test', '', 'none was found')])
def test_wrong_python_is_refused_in_a_line(checkout, tmp_path, profile,
                                           version, expected):
    checkout.script(tmp_path / 'python', f'echo {version}; [ -n "{version}" ]')
    result, calls = checkout.set_up(profile, PYTHON=str(tmp_path / 'python'))
    assert result.returncode == 1 and calls == []
    line, = result.stderr.splitlines()
    assert expected in line and f'make {profile} PYTHON=' in line
    assert not version or f'python is {version}. ' in line
    assert (checkout.folder / '.venv/bin/uv').exists()


@pytest.fixture
def builder(repo_root, monkeypatch, tmp_path):
    """Import tools/dev/build_mmcv.py, with a cache and a log of its own."""
    monkeypatch.syspath_prepend(str(repo_root / 'tools' / 'dev'))
    monkeypatch.setenv('MMDYNPERCEIVER_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(sys, 'prefix', str(tmp_path))
    module = importlib.import_module('build_mmcv')
    monkeypatch.setattr(module, 'FOR_CUDA', False)
    yield module
    sys.modules.pop('build_mmcv')


def test_wheels_of_other_versions_are_not_used(builder, monkeypatch, capsys):

    def use(torch, cuda=False):
        monkeypatch.setattr(builder, 'torch_version', lambda: torch)
        monkeypatch.setattr(builder, 'FOR_CUDA', cuda)
        return builder.wheel_folder()

    monkeypatch.setattr(builder, 'build', lambda *args: ' '.join(args[:2]))
    folder = use('2.11.0+cpu')
    tag = 'cp{}{}'.format(*sys.version_info)
    assert folder.name.startswith(f'torch2.11.0+cpu-{tag}-')
    folder.mkdir(parents=True)
    builder.main()
    name, version = capsys.readouterr().out.split()
    assert name == 'mmcv'
    wheel = folder / f'mmcv-{version}-x.whl'
    wheel.touch()
    builder.main()
    assert capsys.readouterr().out == f'{wheel}\n'
    builder.main('--onedl')
    name, number = capsys.readouterr().out.split()
    assert name == 'onedl-mmcv' and number != version
    wheel = folder / f'onedl_mmcv-{number}-x.whl'
    wheel.touch()
    builder.main('--onedl')
    assert capsys.readouterr().out == f'{wheel}\n'
    for other in (dict(torch='2.11.0+cu130'),
                  dict(torch='2.11.0+cpu', cuda=True)):
        assert use(**other) != folder
        builder.main()
        assert capsys.readouterr().out == f'mmcv {version}\n'


def test_version_of_torch_is_read_unimported(builder):
    import torch
    assert builder.torch_version() == torch.__version__


def write_source(folder, version, *names):
    """Write a source archive of a mmcv that has these files only."""
    setup = ("import os\nfrom setuptools import setup\n"
             "assert os.environ['MMCV_WITH_OPS'] == '1'\n"
             "assert int(os.environ['MAX_JOBS']) > 0\n"
             f"setup(name='mmcv', version='{version}', packages=['mmcv'],\n"
             "      package_data=dict(mmcv=['*.so']))\n")
    source = folder / f'mmcv-{version}'
    shutil.rmtree(source, ignore_errors=True)
    (source / 'mmcv').mkdir(parents=True)
    (source / 'setup.py').write_text(setup)
    for name in names:
        (source / 'mmcv' / name).touch()
    with tarfile.open(f'{source}.tar.gz', 'w:gz') as archive:
        archive.add(source, source.name)


def test_built_wheel_is_moved_into_the_cache(builder, monkeypatch, tmp_path):
    monkeypatch.setattr(builder, 'check_compiler', lambda: None)
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path))
    folder = tmp_path / 'cache' / 'wheels' / 'torch'
    write_source(tmp_path, '2.1.0', '__init__.py', '_ext.cpython-311.so')
    wheel = builder.build('mmcv', '2.1.0', folder)
    assert list(folder.iterdir()) == [wheel] and zipfile.is_zipfile(wheel)
    wheel.unlink()
    write_source(tmp_path, '2.1.0', '__init__.py')
    with pytest.raises(builder.BuildError, match='no operators'):
        builder.build('mmcv', '2.1.0', folder)
    assert list(folder.iterdir()) == []


def test_progress_and_end_of_a_failed_build(builder, monkeypatch, tmp_path,
                                            capsys):
    clock = iter(range(0, 1000, 30))
    monkeypatch.setattr(builder.time, 'monotonic', lambda: next(clock))
    code = 'print("[3/9] c++ a.cpp\\nno memory"); raise SystemExit(4)'
    with pytest.raises(builder.BuildError, match='MAX_JOBS=1'):
        builder.run([sys.executable, '-c', code], tmp_path / 'log')
    shown = capsys.readouterr().err
    assert 'compiled [3/9], 60 s' in shown and '| no memory' in shown
    assert 'no memory' in (tmp_path / 'log').read_text()


def test_missing_compiler_is_said_in_a_line(builder, monkeypatch, capsys):
    monkeypatch.setattr(builder, 'torch_version', lambda: '0.0')
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(SystemExit, match=r'^Error: no C\+\+.* apt .*g\+\+'):
        builder.main()
    monkeypatch.setenv('CXX', 'sh')
    monkeypatch.setattr(builder.sysconfig, 'get_paths',
                        lambda: dict(include=''))
    with pytest.raises(SystemExit, match='headers of Python'):
        builder.main()
