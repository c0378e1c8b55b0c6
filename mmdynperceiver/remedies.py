# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The commands that make a task work, by what is installed and what failed."""
from __future__ import annotations
import importlib.util
import os
import platform
import re
import shlex
import shutil
import sys

__all__ = ['PACKAGES', 'install', 'installer', 'remedies', 'with_onedl']

# The versions that the three tasks were tested with.
MMENGINE = 'mmengine==0.10.7'
MMCV_LITE = 'mmcv-lite==2.1.0'
MMCV = 'mmcv==2.1.0'
HOSTS = {
    'classification': 'mmpretrain==1.2.0',
    'recognition': 'mmaction2==1.2.0',
    'detection': 'mmdet==3.3.0'
}
# The same of OneDL's fork, whose distributions write the same folders. There
# is none of MMAction2, and one mmcv for all.
ONEDL = {
    MMENGINE: 'onedl-mmengine==0.10.12',
    MMCV_LITE: 'onedl-mmcv==2.3.6',
    MMCV: 'onedl-mmcv==2.3.6',
    HOSTS['classification']: 'onedl-mmpretrain==1.3.6',
    HOSTS['detection']: 'onedl-mmdetection==3.5.1'
}

# Distributions whose name is not that of the module.
PACKAGE_OF_MODULE = {
    'ai_edge_litert': 'ai-edge-litert',
    'cv2': 'opencv-python-headless',
    'litert_torch': 'litert-torch',
    'mmcv': MMCV_LITE,
    'mmengine': MMENGINE,
    'mmpretrain': HOSTS['classification'],
    'PIL': 'pillow',
    'pkg_resources': 'setuptools<81',
    'sklearn': 'scikit-learn',
    'yaml': 'pyyaml'
}

# What an OpenCV says that lacks libraries, or that another one overwrote.
BROKEN_OPENCV = (r'libGL|libgthread|libglib|libxcb|libX11|libSM|libXext|'
                 r'cv2.*has no attribute')
# What is said where something was built for another major version.
BROKEN_NUMPY = (r'numpy\.dtype size changed|_ARRAY_API|NumPy 1\.x|'
                r'Numpy is not available')

# What the tools beside the three tasks need, as requirements/*.txt has it.
PACKAGES = {
    'export': ('onnx>=1.18', 'onnxruntime>=1.23'),
    'deployment, ONNX Runtime': ('onnxruntime>=1.23', 'pillow'),
    'deployment, OpenVINO': ('openvino>=2026.4', 'pillow'),
    'export for LiteRT': ('litert-torch>=0.10', 'ai-edge-litert>=2.3',
                          'onnx>=1.18', 'onnxruntime>=1.23'),
    'deployment, LiteRT': ('ai-edge-litert>=2.3', 'pillow'),
    'demo data': ('scikit-learn', 'opencv-python-headless'),
    'report': ('matplotlib', ),
}


def installer(action: str) -> str:
    """How to 'install' or 'uninstall' for the running Python in a shell: by
    its pip, or by uv, whose environments have none."""
    python = shlex.quote(sys.executable)
    if importlib.util.find_spec('pip') is None and shutil.which('uv'):
        return f'uv pip {action} --python {python}'
    found = shutil.which('python')
    if found and os.path.samefile(
            os.path.dirname(found), os.path.dirname(sys.executable)):
        python = 'python'
    yes = ' -y' if action == 'uninstall' else ''
    return f'{python} -m pip {action}{yes}'


def install(*packages: str, options: str = '') -> str:
    """The command that installs packages."""
    parts = [installer('install'), options, *map(shlex.quote, packages)]
    return ' '.join(filter(None, parts))


def uninstall(versions: dict, *names: str) -> list[str]:
    """The command that removes those packages that are there, if any."""
    present = [name for name in names if versions.get(name)]
    return [f'{installer("uninstall")} {" ".join(present)}'] if present else []


def with_onedl(versions: dict) -> dict:
    """Versions in which OneDL's distributions go by the names of those whose
    folders they write; OpenMMLab's own where there are none."""
    renamed = {
        old.partition('==')[0]: versions.get(new.partition('==')[0])
        for old, new in ONEDL.items() if old != MMCV_LITE
    }
    return {
        **versions,
        **{
            name: number
            for name, number in renamed.items() if number
        }
    }


def both_families(versions: dict) -> list[str]:
    """What to do where both wrote the same folders; [] where not."""
    ours = {old.partition('==')[0] for old in ONEDL}
    forks = {new.partition('==')[0] for new in ONEDL.values()}
    if not any(map(versions.get, ours)) or not any(map(versions.get, forks)):
        return []
    present = sorted(filter(versions.get, ours | forks))
    return [
        '# the distributions of OpenMMLab and those of OneDL write the same '
        'folders; this keeps OneDL', *uninstall(versions, *present),
        install(*sorted({
            new
            for old, new in ONEDL.items() if new.partition('==')[0] in present
        }))
    ]


def build_mmcv(versions: dict, fork: bool = False) -> list[str]:
    """The commands that compile mmcv, or OneDL's, for the installed torch.

    No ready-made wheel exists for most versions of torch, and pip's cache
    may hold one for another version, which would not load. The fork, built
    apart from torch, has no operators.
    """
    if sys.version_info >= (3, 13) and not fork:
        return [
            '# mmcv 2.1.0 cannot be built for Python 3.13 or later: make an '
            'environment with Python 3.11'
        ]
    commands = []
    if not shutil.which(os.environ.get('CXX', 'c++').split()[0]):
        commands.append(
            '# a C++ compiler is needed first (Debian/Ubuntu: apt install '
            'g++)')
    options = '--no-build-isolation --no-deps --no-cache-dir --no-binary'
    tools = install('setuptools<81', 'wheel', 'ninja', 'psutil', 'packaging')
    if fork:
        options += ' onedl-mmcv --force-reinstall'
        return [*commands, tools, install(ONEDL[MMCV], options=options)]
    return commands + uninstall(versions, 'mmcv', 'mmcv-lite') + [
        tools, 'MMCV_WITH_OPS=1 ' + install(MMCV, options=f'{options} mmcv')
    ]


def install_host(task: str, versions: dict, fork: bool = False) -> list[str]:
    """The commands for the packages that a task lacks altogether."""
    host = HOSTS[task]
    simple = [] if versions.get('mmengine') else [MMENGINE]
    commands = []
    if not versions.get(host.partition('==')[0]):
        if task == 'recognition':
            x86 = platform.machine().lower() in ('x86_64', 'amd64')
            simple += [
                'decord' if x86 else 'eva-decord', 'einops',
                'importlib_metadata', 'matplotlib', 'scipy'
            ]
            # Its dependencies would bring a second copy of OpenCV, which
            # overwrites the first.
            commands.append(install(host, options='--no-deps'))
        else:
            simple.append(host)
    if not versions.get('mmcv'):
        if task == 'detection':
            commands += build_mmcv(versions, fork)
        elif fork:
            simple.append(MMCV)
        elif not versions.get('mmcv-lite'):
            simple.append(MMCV_LITE)
    return ([install(*of_family(fork, simple))] if simple else []) + commands


def of_family(fork: bool, packages: list[str]) -> list[str]:
    """The same packages in OneDL's fork, or as they are."""
    return [ONEDL.get(name, name) for name in packages] if fork else packages


def missing_package(facts: dict) -> str | None:
    """The distribution of a module that was not found, if it has one."""
    if facts.get('kind') != 'ModuleNotFoundError' or not facts['missing']:
        return None
    module = facts['missing'].partition('.')[0]
    if module.startswith('mm') and module not in PACKAGE_OF_MODULE:
        return None
    return PACKAGE_OF_MODULE.get(module, module)


def remedies(task: str, versions: dict, facts: dict) -> list[str]:
    """Write the commands that make a task or a tool work.

    Args:
        task (str): One of HOSTS or PACKAGES.
        versions (dict): What ``doctor.installed_versions`` found.
        facts (dict): What ``doctor.probe`` found.

    Returns:
        list[str]: Commands for a shell; a line with ``#`` is for the reader.
    """
    if task in HOSTS and both_families(versions):
        return both_families(versions)
    fork = any(
        versions.get(name.partition('==')[0]) for name in ONEDL.values())
    versions = with_onedl(versions)
    commands = install_host(task, versions, fork) if task in HOSTS else []
    if commands:
        return commands
    error = f'{facts.get("kind")}: {facts.get("error")}'
    if re.search(BROKEN_OPENCV, error):
        names = [name for name in versions if name.startswith('opencv')]
        return uninstall(versions, *
                         names) + [install('opencv-python-headless')]
    if re.search(BROKEN_NUMPY, error):
        return [install('numpy<2')]
    missing = missing_package(facts)
    if task in PACKAGES:
        names = [package.partition('>=')[0] for package in PACKAGES[task]]
        also = [missing] if missing and missing not in names else []
        return [install(*PACKAGES[task], *also)]
    if fork:
        suspect = HOSTS[task]
        if _is_broken_mmcv(error, facts):
            if task == 'detection':
                return build_mmcv(versions, fork)
            suspect = MMCV
        elif re.search(r'MMEngine==|already registered', error):
            suspect = MMENGINE
        if missing:
            return [install(missing)]
        return [
            install(
                *of_family(True, [suspect]),
                options='--no-deps --force-reinstall')
        ]
    return _remedies_of_openmmlab(task, versions, error, facts, missing)


def _is_broken_mmcv(error: str, facts: dict) -> bool:
    """Whether mmcv is another version, or its operators do not load."""
    return 'MMCV==' in error or 'mmcv._ext' in error or \
        facts['module'] == 'mmcv.ops'


def _remedies_of_openmmlab(task: str, versions: dict, error: str, facts: dict,
                           missing: str | None) -> list[str]:
    """Where all distributions are there, and something in them is broken."""
    if versions.get('mmcv') and versions.get('mmcv-lite'):
        # They overwrite each other's files.
        if task == 'detection':
            return build_mmcv(versions)
        return uninstall(versions, 'mmcv', 'mmcv-lite') + [
            install(MMCV_LITE, options='--no-deps')
        ]
    if re.search(r'MMEngine==|already registered', error):
        return [install(MMENGINE)]
    if _is_broken_mmcv(error, facts):
        if task == 'detection' or versions.get('mmcv'):
            return build_mmcv(versions)
        return [install(MMCV_LITE, options='--no-deps')]
    if missing:
        return [install(missing)]
    return [install(HOSTS[task], options='--no-deps --force-reinstall')]
