# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Tell what is installed, what works, and the commands that fix the rest.

Run ``python -m mmdynperceiver.doctor [--json]``. The exit code is 0 if
classification works, and 1 if it does not; the other two tasks, and export,
deployment, the demo's data and the report, need packages that not everybody
wants, so that they do not count.

Each task is tried by real imports in a process of its own: one broken package
neither hides the others nor takes this program down.
"""
from __future__ import annotations
import argparse
import importlib.util
import json
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version

from .remedies import PACKAGES, remedies, with_onedl

DISTRIBUTIONS = ('mmdynperceiver', 'torch', 'torchvision', 'numpy',
                 'opencv-python', 'opencv-python-headless',
                 'opencv-contrib-python', 'opencv-contrib-python-headless',
                 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain', 'mmaction2',
                 'mmdet', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain',
                 'onedl-mmdetection', 'onnx', 'onnxruntime', 'openvino',
                 'litert-torch', 'ai-edge-litert', 'scikit-learn',
                 'matplotlib', 'setuptools')

COMMON = ('torch', 'cv2', 'mmengine', 'mmcv')
# What each task imports, in the order in which a cause should be found.
TASKS = {
    'classification': (*COMMON, 'mmpretrain.models'),
    'recognition': (*COMMON, 'mmaction.models'),
    'detection': (*COMMON, 'mmcv.ops', 'mmdet.models')
}
# The same for what goes with them; what to install is in PACKAGES.
RUNNER = ('numpy', 'PIL', 'mmdynperceiver.deploy')
LITERT = 'ai_edge_litert.interpreter'
TOOLS = {
    'export': ('torch', 'onnx', 'onnxruntime', 'mmdynperceiver.deploy.export'),
    'deployment, ONNX Runtime': (*RUNNER, 'onnxruntime'),
    'deployment, OpenVINO': (*RUNNER, 'openvino'),
    'export for LiteRT':
    ('torch', 'litert_torch', LITERT, 'mmdynperceiver.deploy.export'),
    'deployment, LiteRT': (*RUNNER, LITERT),
    'demo data': ('sklearn', 'cv2'),
    'report': ('matplotlib', 'mmdynperceiver.report')
}

PROBE = '''
import importlib, json, sys
import mmdynperceiver
facts = {}
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        if name == 'torch':
            layer = module.nn.Linear(2, 1)
            layer(module.ones(1, 2)).sum().backward()
            layer.weight.grad.numpy()
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
    """The versions of DISTRIBUTIONS; None for what is not there."""
    versions: dict[str, str | None] = {'python': platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    if versions['mmdynperceiver'] is None:  # used from a checkout's folder
        from . import __version__
        versions['mmdynperceiver'] = __version__
    return versions


def probe(modules: tuple[str, ...], timeout: float = 600) -> dict:
    """Import modules in another process, up to the first that fails.

    PyTorch has to compute, too, and to give NumPy what it computed.

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
        kind = 'TimeoutError'
        error = f'the imports did not end within {timeout:.0f} s'
    else:
        found = re.search(r'^FACTS(.*)$', result.stdout, re.MULTILINE)
        if found:
            return json.loads(found.group(1))
        last = (result.stderr.strip().splitlines() or ['no message'])[-1]
        kind = 'Crash'
        error = f'Python ended with code {result.returncode}: {last}'
    return dict(kind=kind, module=modules[-1], missing=None, error=error)


def failure(error: BaseException) -> dict:
    """Find out why an import failed, by what it raised.

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


def too_old(packages: tuple[str, ...]) -> str | None:
    """Name the first installed package that is older than 'name>=1.2' says."""
    for package in packages:
        name, _, least = package.partition('>=')
        try:
            found = version(name)
        except PackageNotFoundError:
            continue  # another distribution may have the module
        if least and _numbers(found) < _numbers(least):
            return f'{name} {found} is older than {least}'
    return None


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    return tuple(map(int, re.findall(r'\d+', text)[:3]))


def examine_task(task: str, versions: dict, result: dict) -> dict:
    """Say whether one of TASKS or TOOLS works, by what its probe found.

    Returns:
        dict: 'works' (bool), 'error' (str or None) and 'commands' (list).
    """
    error = too_old(PACKAGES.get(task, ()))
    if 'error' in result:
        error = f'import {result["module"]}: {result["kind"]}: ' \
                f'{result["error"]}'
    if error is None:
        return dict(works=True, error=None, commands=[])
    return dict(
        works=False, error=error, commands=remedies(task, versions, result))


def examine() -> dict:
    """Find out everything that is printed.

    Returns:
        dict: 'versions', 'facts' (CUDA, OpenCV, whether the operators of
        mmcv load), and 'tasks' and 'tools' by name, each as
        :func:`examine_task` returns it.
    """
    versions = installed_versions()
    jobs = {'operators': ('torch', 'mmcv.ops'), **TOOLS}
    for task, modules in TASKS.items():
        adapter = f'mmdynperceiver.{task}'
        present = importlib.util.find_spec(adapter) is not None
        jobs[task] = modules + ((adapter, ) if present else ())
    # two at a time: each takes a core and some hundred megabytes
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = dict(zip(jobs, pool.map(probe, jobs.values())))
    facts = {
        name: next((r[name] for r in results.values() if r.get(name)), None)
        for name in ('cuda', 'gpu', 'opencv')
    }
    facts['mmcv_operators'] = 'error' not in results['operators']
    tasks, tools = ({
        name: examine_task(name, versions, results[name])
        for name in names
    } for names in (TASKS, TOOLS))
    return dict(versions=versions, facts=facts, tasks=tasks, tools=tools)


def version_rows(report: dict) -> list[tuple[str, str]]:
    """List the rows of the first table."""
    versions, facts = report['versions'], report['facts']
    rows = []
    known = with_onedl(versions)
    for name, number in versions.items():
        optional = name.startswith(
            ('opencv', 'onedl-')) or name in ('mmcv',
                                              'mmcv-lite') or known[name]
        if number or not optional:
            rows.append((name, number or 'not installed'))
    if not (known['mmcv'] or versions['mmcv-lite']):
        rows.append(('mmcv or mmcv-lite', 'not installed'))
    cuda = facts['cuda'] or 'torch is built without it'
    return rows + [('CUDA', f'{cuda} ({facts["gpu"] or "no usable GPU"})'),
                   ('OpenCV (cv2)', facts['opencv'] or 'does not import'),
                   ('operators of mmcv', 'load' if facts['mmcv_operators'] else
                    'do not load (only detection needs them)')]


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
    Console(markup=False, emoji=False, highlight=False).print(table)


def print_report(report: dict) -> None:
    """Print the tables, then for what does not work cause and commands."""
    print_table('Versions', ('what', 'version'), version_rows(report))
    everything = {**report['tasks'], **report['tools']}
    rows = [(name, 'works' if result['works'] else 'does not work')
            for name, result in everything.items()]
    print_table('Tasks and tools', ('what', 'state'), rows)
    for name, result in everything.items():
        if not result['works']:
            # plain print: a command must not be wrapped
            print(f'\n{name} does not work: {result["error"]}')
            print('This fixes it:')
            for command in result['commands']:
                print(f'    {command}')
    print()


def main(argv: list[str] | None = None) -> int:
    """Print what was found; gives 0 if classification works, else 1."""
    parser = argparse.ArgumentParser(
        prog='python -m mmdynperceiver.doctor',
        description='Tell what is installed, what works, and the commands '
        'that fix the rest. The exit code is 0 if classification works.')
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
