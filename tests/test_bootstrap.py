# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The set-up of the environment, as far as it needs no installation."""
import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture
def tools(repo_root, monkeypatch):
    """Import the modules of tools/dev, and forget them afterwards."""
    names = ('checks', 'console', 'environment', 'steps')
    monkeypatch.syspath_prepend(str(repo_root / 'tools' / 'dev'))
    modules = {name: importlib.import_module(name) for name in names}
    yield type('Tools', (), modules)
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def environment(tools, repo_root, tmp_path):
    """Make an environment of a checkout that has only the requirements."""
    source = repo_root / 'requirements'
    (tmp_path / 'requirements').mkdir()
    for path in source.glob('*.txt'):
        target = tmp_path / 'requirements' / path.name
        target.write_text(path.read_text())
    console = tools.console.Console(tmp_path / 'log')
    environment = tools.environment.Environment(tmp_path, 'test', console)
    environment.stamps.mkdir(parents=True)
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    (environment.folder / 'lib' / 'python3.11' /
     'site-packages').mkdir(parents=True)
    return environment


def test_stamp_is_for_these_inputs_only(tools, environment):
    step = tools.steps.InstallDemo(environment)
    environment.python_fits = lambda: True
    assert not step.is_done()
    step.leave_stamp()
    assert step.is_done()
    with open(environment.constraints, 'a') as file:
        file.write('extra==1.0\n')
    assert not step.is_done()


def test_demo_leaves_a_compiled_mmcv_alone(tools, environment):
    environment.python_fits = lambda: True
    lite = tools.steps.InstallMmcvLite(environment)
    assert not lite.is_done()
    (environment.stamps / 'mmcv').write_text('anything')
    assert lite.is_done()


def test_wheels_of_other_versions_are_not_used(tools, environment, tmp_path,
                                               monkeypatch):
    monkeypatch.setenv('MMDYNPERCEIVER_CACHE', str(tmp_path / 'cache'))
    step = tools.steps.InstallMmcv(environment)
    assert step.cached_wheel('2.11.0+cpu') is None
    folder = environment.wheel_cache() / f'torch2.11.0+cpu-{environment.tag()}'
    folder.mkdir(parents=True)
    wheel = folder / f'mmcv-{step.version}-x.whl'
    wheel.touch()
    assert step.cached_wheel('2.11.0+cpu') == wheel
    assert step.cached_wheel('2.11.0*') == wheel
    assert step.cached_wheel('2.11.0+cu130') is None
    assert step.cached_wheel('2.1.0*') is None
    monkeypatch.setenv('FORCE_CUDA', '1')
    assert step.cached_wheel('2.11.0+cpu') is None


def fake_build(has_operators):
    """Make a stand-in for pip that leaves a wheel, and notes its call."""
    calls = []

    def pip(*arguments, **variables):
        calls.append((arguments, variables))
        folder = Path(arguments[arguments.index('--wheel-dir') + 1])
        with zipfile.ZipFile(folder / 'mmcv-2.1.0-x.whl', 'w') as archive:
            archive.writestr('mmcv/__init__.py', '')
            if has_operators:
                archive.writestr('mmcv/_ext.cpython-311.so', '')

    return pip, calls


def test_built_wheel_is_moved_into_the_cache(tools, environment, tmp_path,
                                             monkeypatch):
    monkeypatch.setenv('MMDYNPERCEIVER_CACHE', str(tmp_path / 'cache'))
    environment.pip, calls = fake_build(has_operators=True)
    step = tools.steps.InstallMmcv(environment)
    wheel = step.build('2.11.0+cpu')
    assert step.cached_wheel('2.11.0+cpu') == wheel
    assert [path.name for path in wheel.parent.iterdir()] == [wheel.name]
    (arguments, variables), = calls
    assert {'--no-build-isolation', '--no-cache-dir',
            '--no-deps'} <= set(arguments)
    assert variables['MMCV_WITH_OPS'] == '1'
    assert int(variables['MAX_JOBS']) >= 1


def test_wheel_without_operators_is_not_kept(tools, environment, tmp_path,
                                             monkeypatch):
    monkeypatch.setenv('MMDYNPERCEIVER_CACHE', str(tmp_path / 'cache'))
    environment.pip, _ = fake_build(has_operators=False)
    step = tools.steps.InstallMmcv(environment)
    with pytest.raises(tools.checks.Missing, match='without its operators'):
        step.build('2.11.0+cpu')
    assert not list((tmp_path / 'cache').rglob('*mmcv*'))


def test_half_installed_packages_are_removed(environment):
    site = environment.site_packages()
    (site / 'whole-1.0.dist-info').mkdir()
    (site / 'whole-1.0.dist-info' / 'RECORD').touch()
    (site / 'half-1.0.dist-info').mkdir()
    (site / '~orch').mkdir()
    environment.remove_debris()
    assert [path.name for path in site.iterdir()] == ['whole-1.0.dist-info']
    assert environment.installed('whole') and not environment.installed('half')


def test_foreign_environment_is_not_replaced(tools, environment):
    environment.stamps.rmdir()
    with pytest.raises(tools.checks.Missing, match='make clean'):
        environment.check_owner()


def test_callers_settings_do_not_leak(environment, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', '/elsewhere')
    monkeypatch.setenv('PIP_TARGET', '/elsewhere')
    monkeypatch.setenv('PIP_INDEX_URL', 'file:///mirror')
    variables = environment.variables()
    assert 'PYTHONPATH' not in variables and 'PIP_TARGET' not in variables
    assert variables['PIP_INDEX_URL'] == 'file:///mirror'


def test_full_disk_and_missing_compiler(tools, tmp_path, monkeypatch):
    Missing = tools.checks.Missing
    with pytest.raises(Missing, match='free disk'):
        tools.checks.check_disk(tmp_path, 1e9)
    tools.checks.check_disk(tmp_path, 0)
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(Missing, match=r'apt install g\+\+'):
        tools.checks.check_compiler()
    monkeypatch.setenv('CXX', 'false')
    with pytest.raises(Missing, match='does not work'):
        tools.checks.check_compiler()


@pytest.mark.parametrize('version, profile, fits',
                         [((3, 9, 0), 'demo', False),
                          ((3, 10, 0), 'test', True),
                          ((3, 13, 0), 'demo', True),
                          ((3, 13, 0), 'test', False)])
def test_versions_of_python(tools, monkeypatch, version, profile, fits):
    monkeypatch.setattr(tools.checks.sys, 'version_info', version)
    if fits:
        tools.checks.check_python(profile)
    else:
        with pytest.raises(tools.checks.Missing, match='PYTHON='):
            tools.checks.check_python(profile)


@pytest.mark.parametrize(
    'output, remedy',
    [('OSError: [Errno 28] No space left on device', 'disk is full'),
     ('NewConnectionError: Failed to establish\nERROR: No matching '
      'distribution found', 'network'),
     ('ERROR: No matching distribution found for torch', 'Python 3.11'),
     ('c++: fatal error: Killed signal terminated', 'MAX_JOBS=1'),
     ('something else', 'log')])
def test_remedies(tools, output, remedy):
    assert remedy in tools.checks.remedy_for(output)


def test_progress_is_understood(tools):
    describe = tools.console.describe
    assert describe('  Downloading torch-2.whl (530.6 MB)',
                    '') == (False, 'Downloading torch-2.whl (530.6 MB)')
    is_progress, text = describe('Progress 265000000 of 530000000', 'torch')
    assert is_progress and text.startswith('torch  ##########..........')
    assert text.endswith('265/530 MB')
    assert describe('  [3/9] c++ -MMD -c a.cpp',
                    '')[1].endswith('3 of 9 files')
    assert describe('anything', 'as before') == (False, 'as before')


def test_failed_command_keeps_its_last_lines(tools, tmp_path):
    console = tools.console.Console(tmp_path / 'log')
    code = 'print("a"); print("b"); raise SystemExit(4)'
    with pytest.raises(tools.console.CommandFailed) as info:
        console.run([sys.executable, '-c', code], None)
    assert info.value.tail == ['a', 'b']
    assert 'a\nb\n' in (tmp_path / 'log').read_text()
    assert console.run([sys.executable, '-c', 'print(1)'], None) == '1'


def test_python_is_found_or_asked_for(repo_root):
    script = repo_root / 'tools' / 'dev' / 'find_python.sh'

    def find(*arguments):
        return subprocess.run(['bash', str(script), *arguments],
                              capture_output=True,
                              text=True)

    found = find(sys.executable)
    assert found.stdout.strip() == sys.executable
    missing = find('no-such-python')
    assert missing.returncode == 1 and missing.stdout == ''
    assert len(missing.stderr.splitlines()) == 1
    assert 'make PYTHON=' in missing.stderr
