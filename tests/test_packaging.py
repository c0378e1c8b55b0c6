# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a built wheel, a source archive and an editable install contain."""
import configparser
import email
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

PACKAGE = 'mmdynperceiver'
SHIPPED = ('setup.py', 'setup.cfg', 'MANIFEST.in', 'LICENSE', 'README.md',
           '.gitignore', 'requirements', 'configs', 'projects', 'tools',
           PACKAGE, 'model-index.yml')
ROOT = Path(__file__).resolve().parents[1]
HOSTS = ('mmengine', 'mmcv', 'mmpretrain', 'mmaction', 'mmdet')


def build(kind, source, target):
    """Build in a folder with the installed setuptools, as pip would."""
    code = ('import sys\nfrom setuptools import build_meta\n'
            f'print(build_meta.build_{kind}(sys.argv[1]))')
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code,
         str(target)],
        cwd=source,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300)
    assert result.returncode == 0, result.stderr
    return target / result.stdout.split()[-1]


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """Copy the tree, with a config and an index even where there are none."""
    if importlib.util.find_spec('wheel') is None:
        pytest.skip('wheel is not installed')
    folder = tmp_path_factory.mktemp('tree')
    ignore = shutil.ignore_patterns('__pycache__', '.mim', '*.egg-info',
                                    '.mypy_cache')
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        elif source.exists():
            shutil.copy2(source, folder / name)
    (folder / 'configs' / 'probe').mkdir(parents=True)
    (folder / 'configs' / 'probe' / 'probe.py').write_text('value = 1\n')
    (folder / 'configs' / 'probe' / 'metafile.yml').write_text('Models: []\n')
    index = folder / 'model-index.yml'
    if not index.exists():
        index.write_text('Import: []\n')
    (folder / 'tools' / 'probe.sh').write_text('echo\n')
    return folder


@pytest.fixture(scope='module')
def wheel(tree, tmp_path_factory):
    """Build a wheel from the tree."""
    return build('wheel', tree, tmp_path_factory.mktemp('wheel'))


def names_in(wheel):
    """List the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata_of(wheel):
    """Parse the metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith('/METADATA'))
        return email.message_from_bytes(archive.read(name))


def test_wheel_contains_every_module(tree, wheel):
    package = tree / PACKAGE
    expected = {
        path.relative_to(tree).as_posix()
        for path in package.rglob('*.py') if '__pycache__' not in path.parts
    }
    assert len(expected) > 5
    assert expected <= names_in(wheel)


def test_every_folder_with_code_is_a_package(repo_root):
    """Otherwise find_packages drops it from the wheel without a word."""
    folders = {path.parent for path in (repo_root / PACKAGE).rglob('*.py')}
    folders = {f for f in folders if '.mim' not in f.parts}
    assert not [str(f) for f in folders if not (f / '__init__.py').exists()]


def test_wheel_contains_mim(tree, wheel):
    names = names_in(wheel)
    mim = f'{PACKAGE}/.mim/'
    assert {
        mim + 'model-index.yml', mim + 'configs/probe/probe.py',
        mim + 'configs/probe/metafile.yml', mim + 'tools/probe.sh'
    } <= names
    configs = {
        mim + path.relative_to(tree).as_posix()
        for path in (tree / 'configs').rglob('*.py')
    }
    assert configs <= names
    assert not [n for n in names if n.startswith(mim + 'tools/dev/')]


def test_wheel_contains_nothing_else(wheel):
    allowed = re.compile(rf'^{PACKAGE}(-[^/]+\.dist-info)?/')
    names = names_in(wheel)
    assert not [n for n in names if not allowed.match(n)]
    assert not [n for n in names if n.endswith('.pyc')]


def test_the_command_is_installed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name, = [
            n for n in archive.namelist() if n.endswith('entry_points.txt')
        ]
        text = archive.read(name).decode()
    assert f'{PACKAGE} = {PACKAGE}.cli.commands:main' in text


def test_metadata(wheel, repo_root):
    metadata = metadata_of(wheel)
    spec = importlib.util.spec_from_file_location(
        'version', repo_root / PACKAGE / 'version.py')
    version = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(version)
    assert metadata['Name'] == PACKAGE
    assert metadata['Version'] == version.__version__
    assert metadata['Requires-Python'] == '>=3.10'
    assert set(metadata.get_all('Provides-Extra')) == {
        'classification', 'recognition', 'detection', 'onedl', 'deploy',
        'litert', 'hub', 'parquet', 'serve', 'tests', 'mim'
    }
    needs = metadata.get_all('Requires-Dist')
    base = [need for need in needs if 'extra ==' not in need]
    assert {re.match(r'[\w-]+', need).group()
            for need in base} == {'torch', 'torchvision', 'numpy', 'jinja2'}
    assert not [need for need in needs if need.startswith('openmim')]
    # both are the module mmcv: which one is the user's choice
    assert not [need for need in needs if need.startswith('mmcv-lite')]
    # two families of one folder: an extra brings one of them
    for extra, family in (('onedl', 'onedl-mmengine'), ('classification',
                                                        'mmengine')):
        brought = [need for need in needs if f'"{extra}"' in need]
        assert {family} == {
            name
            for name in ('mmengine', 'onedl-mmengine')
            for need in brought if re.match(rf'{name}[^\w-]', need)
        }


def test_wheel_works_outside_the_checkout(wheel, tmp_path, run_python):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / 'site')
    result = run_python(
        f'import {PACKAGE} as package\nprint(package.__file__)',
        paths=[tmp_path / 'site'])
    assert str(tmp_path / 'site') in result.stdout, result.stderr


def test_wheel_of_the_source_archive_is_the_same(tree, wheel, tmp_path):
    archive = build('sdist', tree, tmp_path)
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / 'source')
    source = next((tmp_path / 'source').iterdir())
    assert (source / 'projects/digits/README.md').exists()
    again = build('wheel', source, tmp_path)
    assert names_in(again) == names_in(wheel)


def test_editable_install_links_mim(tree, tmp_path):
    copy = tmp_path / 'copy'
    shutil.copytree(
        tree, copy, ignore=shutil.ignore_patterns('build', '*.egg-info'))
    build('editable', copy, tmp_path)
    mim = copy / PACKAGE / '.mim'
    probe = mim / 'configs' / 'probe' / 'probe.py'
    assert probe.read_text() == 'value = 1\n'
    (copy / 'configs' / 'probe' / 'probe.py').write_text('value = 2\n')
    assert probe.read_text() == 'value = 2\n'
    assert (mim / 'model-index.yml').exists()


def test_builds_leave_nothing_that_git_sees(tree, tmp_path):
    if shutil.which('git') is None:
        pytest.skip('git is not installed')
    copy = tmp_path / 'copy'
    shutil.copytree(
        tree, copy, ignore=shutil.ignore_patterns('build', '*.egg-info'))

    def git(*arguments):
        return subprocess.run([
            'git', '-c', 'user.name=t', '-c', 'user.email=t@example.org',
            *arguments
        ],
                              cwd=copy,
                              check=True,
                              capture_output=True,
                              text=True).stdout

    git('init', '-q')
    git('add', '-A')
    git('commit', '-q', '-m', 'all')
    build('wheel', copy, tmp_path)
    build('editable', copy, tmp_path)
    assert git('status', '--porcelain') == ''


def test_builds_without_configs_and_index(tree, tmp_path):
    copy = tmp_path / 'copy'
    shutil.copytree(
        tree,
        copy,
        ignore=shutil.ignore_patterns('build', '*.egg-info', 'configs',
                                      'tools', 'model-index.yml'))
    names = names_in(build('wheel', copy, tmp_path))
    assert f'{PACKAGE}/__init__.py' in names
    assert not [name for name in names if '/.mim/' in name]


@pytest.mark.parametrize('module', [PACKAGE, f'{PACKAGE}.core'])
def test_core_imports_no_host(module, run_python):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f'{module} does not exist')
    result = run_python(
        f'import sys, {module}\n'
        'print({name.partition(".")[0] for name in sys.modules}'
        f' & set({HOSTS!r}) or "none")')
    assert result.stdout.strip() == 'none', result.stderr


def test_requirements_agree_with_mminstall(repo_root):
    """A task and the file for mim must not ask for different ranges."""

    def lines(name):
        text = (repo_root / 'requirements' / f'{name}.txt').read_text()
        return {
            line.strip()
            for line in text.splitlines() if line.startswith('mmengine')
        }

    for extra in ('classification', 'recognition', 'detection'):
        assert lines(extra) == lines('mminstall') != set()


def test_constraints_pin_every_requirement(repo_root):
    folder = repo_root / 'requirements'
    pins = (folder / 'constraints.txt').read_text().lower()
    pins = {
        match.group(1).replace('_', '-')
        for match in re.finditer(r'^([\w-]+)==', pins, re.MULTILINE)
    }
    for path in folder.glob('*.txt'):
        if path.stem in ('constraints', 'mminstall', 'excludes', 'onedl',
                         'litert'):
            continue
        for line in path.read_text().splitlines():
            match = re.match(r'([A-Za-z][\w-]*)', line)
            if match:
                name = match.group(1).lower().replace('_', '-')
                assert name in pins, f'{name} of {path.name} has no pin'


def test_hooks_run_the_targets_of_make(repo_root):
    hooks = (repo_root / '.pre-commit-config.yaml').read_text()
    targets = re.findall(r'entry: make (\S+)', hooks)
    makefile = (repo_root / 'Makefile').read_text()
    linters = re.search(r'^LINTERS := (.*)$', makefile, re.MULTILINE)
    assert targets == [f'lint-{name}' for name in linters.group(1).split()]
    assert all(f'\n{target}:\n' in makefile for target in targets)
    assert 'repo: local' in hooks and 'http' not in hooks


def test_settings_parse(repo_root):
    config = configparser.ConfigParser()
    config.read(repo_root / 'setup.cfg')
    assert config['isort']['line_length'] == '79'
    assert int(config['tool:interrogate']['fail-under']) >= 80
