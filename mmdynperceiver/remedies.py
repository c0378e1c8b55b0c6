# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The commands that make a task work, by what is installed and what failed."""
from __future__ import annotations
import os
import platform
import re
import shlex
import shutil
import sys

__all__ = ['install', 'pip', 'remedies', 'tool_remedies']

# The versions that the three tasks were tested with.
MMENGINE = 'mmengine==0.10.7'
MMCV_LITE = 'mmcv-lite==2.1.0'
MMCV = 'mmcv==2.1.0'
MMPRETRAIN = 'mmpretrain==1.2.0'
MMACTION = 'mmaction2==1.2.0'
MMDET = 'mmdet==3.3.0'

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

# What an OpenCV says that lacks libraries, or that another one overwrote.
BROKEN_OPENCV = r'libGL|libgthread|libglib|cv2.*has no attribute'

# What the tools beside the three tasks need, as requirements/*.txt has it.
PACKAGES = {
    'export': ('onnx>=1.18', 'onnxruntime>=1.23'),
    'deployment, ONNX Runtime': ('onnxruntime>=1.23', 'pillow'),
    'deployment, OpenVINO': ('openvino>=2026.4', 'pillow'),
    'demo data': ('scikit-learn', 'opencv-python-headless'),
    'report': ('matplotlib', ),
}


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
    present = [
        name for name, number in versions.items()
        if name.startswith('opencv') and number
    ]
    commands = [f'{pip()} uninstall -y {" ".join(present)}'] if present else []
    return commands + [install('opencv-python-headless')]


def missing_package(facts: dict) -> str | None:
    """Name the distribution of a module that was not found, if it has one."""
    if facts.get('kind') != 'ModuleNotFoundError' or not facts['missing']:
        return None
    module = facts['missing'].partition('.')[0]
    if module.startswith('mm') and module not in PACKAGE_OF_MODULE:
        return None
    return PACKAGE_OF_MODULE.get(module, module)


def tool_remedies(tool: str, versions: dict, facts: dict) -> list[str]:
    """Write the commands that make a tool beside the tasks work.

    Args:
        tool (str): One of PACKAGES.
        versions (dict): See :func:`installed_versions`.
        facts (dict): What :func:`probe` found.
    """
    if re.search(BROKEN_OPENCV, facts.get('error', '')):
        return reinstall_opencv(versions)
    packages = PACKAGES[tool]
    missing = missing_package(facts)
    names = [package.partition('>=')[0] for package in packages]
    also = [missing] if missing and missing not in names else []
    return [install(*packages, *also)]


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
    if re.search(BROKEN_OPENCV, error):
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
    package = missing_package(facts)
    if package:
        return [install(package)]
    host = {
        'classification': MMPRETRAIN,
        'recognition': MMACTION,
        'detection': MMDET
    }[task]
    return [install(host, options='--no-deps --force-reinstall')]
