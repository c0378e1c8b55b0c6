# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Tell what is installed, which tasks work, and what mends the others.

Run ``python -m mmdynperceiver.doctor [--json]``. The exit code is 0 if
classification works, and 1 if it does not; the other two tasks need packages
that not everybody wants, so that they do not count.

Each task is tried by real imports in a process of its own: one broken package
neither hides the others nor takes this program down.
"""
from __future__ import annotations
import argparse
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version

# The versions that the three tasks were tested with.
MMENGINE = 'mmengine==0.10.7'
MMCV_LITE = 'mmcv-lite==2.1.0'
MMCV = 'mmcv==2.1.0'
MMPRETRAIN = 'mmpretrain==1.2.0'
MMACTION = 'mmaction2==1.2.0'
MMDET = 'mmdet==3.3.0'

DISTRIBUTIONS = ('mmdynperceiver', 'torch', 'torchvision', 'numpy',
                 'opencv-python', 'opencv-python-headless',
                 'opencv-contrib-python', 'opencv-contrib-python-headless',
                 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain', 'mmaction2',
                 'mmdet', 'setuptools')

COMMON = ('torch', 'cv2', 'mmengine', 'mmcv')
# What each task imports, in the order in which a cause should be found.
TASKS = {
    'classification': (*COMMON, 'mmpretrain.models'),
    'recognition': (*COMMON, 'mmaction.models'),
    'detection': (*COMMON, 'mmcv.ops', 'mmdet.models')
}

# Distributions whose name is not that of the module.
PACKAGE_OF_MODULE = {
    'cv2': 'opencv-python-headless',
    'mmcv': MMCV_LITE,
    'mmengine': MMENGINE,
    'mmpretrain': MMPRETRAIN,
    'PIL': 'pillow',
    'pkg_resources': 'setuptools<81',
    'sklearn': 'scikit-learn',
    'yaml': 'pyyaml'
}

PROBE = '''
import importlib, json, sys
import mmdynperceiver
facts = {}
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        if name == 'torch':
            facts['cuda'] = module.version.cuda
            facts['gpu'] = (module.cuda.get_device_name(0)
                            if module.cuda.is_available() else None)
        elif name == 'cv2':
            facts['opencv'] = module.__version__
    except BaseException as error:
        from mmdynperceiver.doctor import failure
        facts.update(failure(error), module=name)
        break
print('\\nFACTS' + json.dumps(facts))
'''


def installed_versions() -> dict[str, str | None]:
    """Return the versions of DISTRIBUTIONS; None for what is not there."""
    versions: dict[str, str | None] = {'python': platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    if versions['mmdynperceiver'] is None:  # used from a checkout's folder
        from mmdynperceiver import __version__
        versions['mmdynperceiver'] = __version__
    return versions


def probe(modules: tuple[str, ...], timeout: float = 600) -> dict:
    """Import modules in another process, up to the first that fails.

    Args:
        modules (tuple[str]): Names to import, in order.
        timeout (float): Seconds to wait. Defaults to 600.

    Returns:
        dict: 'error' (str), 'kind', 'module' and 'missing' if one failed;
        'cuda', 'gpu' and 'opencv' as far as they were found out.
    """
    command = [sys.executable, '-W', 'ignore', '-c', PROBE, *modules]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors='replace',
            timeout=timeout)
    except subprocess.TimeoutExpired:
        return dict(
            kind='TimeoutError',
            module=modules[-1],
            missing=None,
            error=f'the imports did not end within {timeout:.0f} s')
    found = re.search(r'^FACTS(.*)$', result.stdout, re.MULTILINE)
    if found:
        return json.loads(found.group(1))
    last = (result.stderr.strip().splitlines() or ['no message'])[-1]
    return dict(
        kind='Crash',
        module=modules[-1],
        missing=None,
        error=f'Python ended with code {result.returncode}: {last}')


def failure(error: BaseException) -> dict:
    """Find out why an import failed.

    Args:
        error (BaseException): What it raised.

    Returns:
        dict: 'kind' and 'error' (str) of the first cause; 'missing', the
        module that was not found, if that was it.
    """
    cause = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__  # type: ignore
    if not isinstance(cause, ImportError) and isinstance(error, ImportError):
        cause = error
    return dict(
        kind=type(cause).__name__,
        error=str(cause),
        missing=getattr(cause, 'name', None))


def pip() -> str:
    """Return how to call the pip of the running Python in a shell."""
    found = shutil.which('python')
    if found and os.path.samefile(
            os.path.dirname(found), os.path.dirname(sys.executable)):
        return 'python -m pip'
    return f'{shlex.quote(sys.executable)} -m pip'


def install(*packages: str, options: str = '') -> str:
    """Write a command that installs packages."""
    parts = [pip(), 'install', options, *map(shlex.quote, packages)]
    return ' '.join(part for part in parts if part)


def build_mmcv(versions: dict) -> list[str]:
    """Write the commands that compile mmcv for the installed torch.

    No ready-made wheel exists for most versions of torch, and pip's cache
    may hold one for another version, which would not load.
    """
    if sys.version_info >= (3, 13):
        return [
            '# mmcv 2.1.0 cannot be built for Python 3.13 or later: make an '
            'environment with Python 3.11'
        ]
    commands = []
    if not shutil.which(os.environ.get('CXX', 'c++').split()[0]):
        commands.append(
            '# a C++ compiler is needed first (Debian/Ubuntu: apt install '
            'g++)')
    present = [name for name in ('mmcv', 'mmcv-lite') if versions.get(name)]
    if present:
        commands.append(f'{pip()} uninstall -y {" ".join(present)}')
    commands.append(
        install('setuptools<81', 'wheel', 'ninja', 'psutil', 'packaging'))
    options = (
        '--no-build-isolation --no-deps --no-cache-dir --no-binary mmcv')
    commands.append('MMCV_WITH_OPS=1 ' + install(MMCV, options=options))
    return commands


def install_hosts(task: str, versions: dict) -> list[str]:
    """Write the commands for the packages that a task lacks altogether."""
    simple = [] if versions.get('mmengine') else [MMENGINE]
    commands = []
    if task == 'classification' and not versions.get('mmpretrain'):
        simple.append(MMPRETRAIN)
    if task == 'recognition' and not versions.get('mmaction2'):
        x86 = platform.machine().lower() in ('x86_64', 'amd64')
        simple += [
            'decord' if x86 else 'eva-decord', 'einops', 'importlib_metadata',
            'matplotlib', 'scipy'
        ]
        # Its dependencies would bring a second copy of OpenCV, which
        # overwrites the first.
        commands.append(install(MMACTION, options='--no-deps'))
    if task == 'detection' and not versions.get('mmdet'):
        simple.append(MMDET)
    if not versions.get('mmcv'):
        if task == 'detection':
            commands += build_mmcv(versions)
        elif not versions.get('mmcv-lite'):
            simple.append(MMCV_LITE)
    return ([install(*simple)] if simple else []) + commands


def reinstall_opencv(versions: dict) -> list[str]:
    """Write the commands that leave one OpenCV, without libGL."""
    present = [name for name in DISTRIBUTIONS if name.startswith('opencv')]
    present = [name for name in present if versions.get(name)]
    commands = [f'{pip()} uninstall -y {" ".join(present)}'] if present else []
    return commands + [install('opencv-python-headless')]


def remedies(task: str, versions: dict, facts: dict) -> list[str]:
    """Write the commands that make a task work.

    Args:
        task (str): One of TASKS.
        versions (dict): See :func:`installed_versions`.
        facts (dict): What :func:`probe` found, with an 'error'.

    Returns:
        list[str]: Commands for a shell; a line with ``#`` is for the reader.
    """
    commands = install_hosts(task, versions)
    if commands:
        return commands
    error = f'{facts["kind"]}: {facts["error"]}'
    if re.search(r'libGL|libgthread|libglib|cv2.*has no attribute', error):
        return reinstall_opencv(versions)
    if versions.get('mmcv') and versions.get('mmcv-lite'):
        # They overwrite each other's files.
        if task == 'detection':
            return build_mmcv(versions)
        return [
            f'{pip()} uninstall -y mmcv mmcv-lite',
            install(MMCV_LITE, options='--no-deps')
        ]
    if re.search(r'numpy\.dtype size changed|_ARRAY_API|NumPy 1\.x', error):
        return [install('numpy<2')]
    if re.search(r'MMEngine==|already registered', error):
        return [install(MMENGINE)]
    wrong_mmcv = 'MMCV==' in error or 'mmcv._ext' in error
    if wrong_mmcv or facts['module'] == 'mmcv.ops':
        if task == 'detection' or versions.get('mmcv'):
            return build_mmcv(versions)
        return [install(MMCV_LITE, options='--no-deps')]
    if facts['kind'] == 'ModuleNotFoundError' and facts['missing']:
        module = facts['missing'].partition('.')[0]
        if not module.startswith('mm') or module in PACKAGE_OF_MODULE:
            return [install(PACKAGE_OF_MODULE.get(module, module))]
    host = {
        'classification': MMPRETRAIN,
        'recognition': MMACTION,
        'detection': MMDET
    }[task]
    return [install(host, options='--no-deps --force-reinstall')]


def examine() -> dict:
    """Find out everything that is printed.

    Returns:
        dict: 'versions', 'facts' (CUDA, OpenCV, whether the operators of
        mmcv load) and 'tasks', which has for each task 'works', 'error' and
        'commands'.
    """
    versions = installed_versions()
    jobs = {'operators': ('torch', 'mmcv.ops')}
    for task, modules in TASKS.items():
        adapter = f'mmdynperceiver.{task}'
        present = importlib.util.find_spec(adapter) is not None
        jobs[task] = modules + ((adapter, ) if present else ())
    # two at a time: each takes a core and some hundred megabytes
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = dict(zip(jobs, pool.map(probe, jobs.values())))
    operators = results.pop('operators')
    facts = {
        name: next((r[name] for r in results.values() if r.get(name)), None)
        for name in ('cuda', 'gpu', 'opencv')
    }
    facts['mmcv_operators'] = 'error' not in operators
    tasks = {}
    for task, result in results.items():
        works = 'error' not in result
        tasks[task] = dict(
            works=works,
            error=None if works else
            f'import {result["module"]}: {result["kind"]}: {result["error"]}',
            commands=[] if works else remedies(task, versions, result))
    return dict(versions=versions, facts=facts, tasks=tasks)


def version_rows(report: dict) -> list[tuple[str, str]]:
    """List the rows of the first table."""
    versions, facts = report['versions'], report['facts']
    rows = []
    for name, number in versions.items():
        optional = name.startswith('opencv') or name in ('mmcv', 'mmcv-lite')
        if number or not optional:
            rows.append((name, number or 'not installed'))
    if not (versions['mmcv'] or versions['mmcv-lite']):
        rows.append(('mmcv or mmcv-lite', 'not installed'))
    cuda = facts['cuda'] or 'torch is built without it'
    rows.append(('CUDA', f'{cuda} ({facts["gpu"] or "no usable GPU"})'))
    rows.append(('OpenCV (cv2)', facts['opencv'] or 'does not import'))
    rows.append(
        ('operators of mmcv',
         'load' if facts['mmcv_operators'] else 'do not load (only detection '
         'needs them)'))
    return rows


def print_table(title: str, header: tuple, rows: list) -> None:
    """Print a table, with rich if there is one."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        widths = [max(map(len, column)) for column in zip(header, *rows)]
        print(title)
        for row in (header, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths))
            print('  ' + '  '.join(cells).rstrip())
        return
    table = Table(*header, title=title, title_justify='left', box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    # text of an exception may look like markup
    Console(markup=False, highlight=False).print(table)


def print_report(report: dict) -> None:
    """Print the tables, then for each broken task cause and commands."""
    print_table('Versions', ('what', 'version'), version_rows(report))
    rows = [(task, 'works' if result['works'] else 'does not work')
            for task, result in report['tasks'].items()]
    print_table('Tasks', ('task', 'state'), rows)
    for task, result in report['tasks'].items():
        if not result['works']:
            # plain print: a command must not be wrapped
            print(f'\n{task} does not work: {result["error"]}')
            print('This mends it:')
            for command in result['commands']:
                print(f'    {command}')
    print()


def main(argv: list[str] | None = None) -> int:
    """Print what was found.

    Args:
        argv (list[str] | None): Arguments, by default those of the process.
            Defaults to None.

    Returns:
        int: 0 if classification works, else 1.
    """
    parser = argparse.ArgumentParser(
        prog='python -m mmdynperceiver.doctor',
        description='Tell what is installed, which tasks work, and what '
        'mends the others. The exit code is 0 if classification works.')
    parser.add_argument(
        '--json', action='store_true', help='print JSON instead of tables')
    args = parser.parse_args(argv)
    report = examine()
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print_report(report)
    return 0 if report['tasks']['classification']['works'] else 1


if __name__ == '__main__':
    sys.exit(main())
