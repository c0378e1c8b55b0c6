# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Build and install mmdynperceiver; settings of the tools are in setup.cfg.

Wheels carry ``mmdynperceiver/.mim`` with configs, tools and model-index.yml,
where mim and mmengine look for them. It is made in the build folder, so that
the source tree stays clean; an editable install gets links instead.
"""
import os
import re
import shutil
from pathlib import Path

from setuptools import Command, find_packages, setup
from setuptools.command.build import build
from setuptools.command.develop import develop

NAME = 'mmdynperceiver'  # mim needs the same name for package and module
ROOT = Path(__file__).resolve().parent
MIM_CONTENTS = ('configs', 'tools', 'model-index.yml')
# Scripts that only serve a checkout are of no use to an installed package.
MIM_EXCLUDED = ('dev', '__pycache__', '*.pyc')

# In an editable install, what Python runs when it starts: processes of mim
# import the package, which shows them where it is (compat/package_lookup.py).
MIM_PTH = ("import os, sys; 'mim' in map(os.path.basename, sys.orig_argv) and "
           f'__import__({NAME!r})\n')


def read_version():
    """Read the version without importing the package."""
    text = (ROOT / NAME / 'version.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if match is None:
        raise RuntimeError(f'no __version__ line in {NAME}/version.py')
    return match.group(1)


def read_requirements(name):
    """Read requirements/<name>.txt without its comments."""
    path = ROOT / 'requirements' / f'{name}.txt'
    lines = path.read_text(encoding='utf-8').splitlines()
    lines = (re.sub(r'(^|\s)#.*', '', line).strip() for line in lines)
    return [line for line in lines if line]


def read_extras():
    """Collect the optional requirements by the name of the extra."""
    names = ('classification', 'recognition', 'detection', 'onedl', 'deploy',
             'litert', 'hub', 'parquet', 'serve', 'tests')
    extras = {name: read_requirements(name) for name in names}
    # mim of today ignores its own extra unless it is asked for by name
    extras['mim'] = read_requirements('mminstall')
    return extras


def remove(path):
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy(source, target):
    """Copy a file or a folder, without what MIM_EXCLUDED names."""
    if source.is_dir():
        ignore = shutil.ignore_patterns(*MIM_EXCLUDED)
        shutil.copytree(source, target, ignore=ignore)
    else:
        shutil.copy2(source, target)


def link(source, target):
    """Link to a file or a folder; copy where links are not possible."""
    try:
        target.symlink_to(
            os.path.relpath(source, target.parent),
            target_is_directory=source.is_dir())
    except OSError:  # some file systems, and Windows without the right
        copy(source, target)


def make_mim(package, place):
    """Fill <package>/.mim; what does not exist is left out.

    Args:
        package (Path): The package's folder that gets ``.mim``.
        place (Callable): ``copy`` or ``link``.
    """
    mim = package / '.mim'
    remove(mim)
    for name in MIM_CONTENTS:
        if (ROOT / name).exists():
            mim.mkdir(parents=True, exist_ok=True)
            place(ROOT / name, mim / name)


class BuildMim(Command):
    """Make ``.mim`` as a part of ``build``, also for PEP 660 installs."""

    description = 'put configs, tools and model-index.yml into the package'
    user_options = []
    editable_mode = False  # set by setuptools for an editable install

    def initialize_options(self):
        """See :class:`setuptools.Command`."""
        self.build_lib = None

    def finalize_options(self):
        """See :class:`setuptools.Command`."""
        self.set_undefined_options('build_py', ('build_lib', 'build_lib'))

    def run(self):
        """See :class:`setuptools.Command`."""
        if self.editable_mode:
            make_mim(ROOT / NAME, link)
            wheel = self.get_finalized_command('install').install_lib
            (Path(wheel) / f'{NAME}-mim.pth').write_text(MIM_PTH)
        else:
            make_mim(Path(self.build_lib) / NAME, copy)

    def get_source_files(self):
        """List the files that a source distribution needs for this."""
        return [
            path.relative_to(ROOT).as_posix() for name in MIM_CONTENTS
            for path in [ROOT / name, *sorted((ROOT / name).rglob('*'))]
            if path.is_file() and '__pycache__' not in path.parts
        ]

    def get_outputs(self):
        """List the files that were built."""
        if self.editable_mode:
            return []
        mim = Path(self.build_lib) / NAME / '.mim'
        return [str(path) for path in mim.rglob('*') if path.is_file()]

    def get_output_mapping(self):
        """Map nothing: an editable install finds ``.mim`` in the source."""
        return {}


class Build(build):
    """``build`` with ``.mim``."""

    sub_commands = build.sub_commands + [('build_mim', None)]


class Develop(develop):
    """The editable install of pip < 25.3 with an old setuptools."""

    def run(self):
        """See :class:`setuptools.Command`."""
        make_mim(ROOT / NAME, link)
        super().run()


setup(
    name=NAME,
    version=read_version(),
    description='Dynamic Perceiver for the OpenMMLab 2.x stack: early exits '
    'for image classification, video recognition and detection',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8') if
    (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    author='mmdynperceiver contributors',
    license='Apache License 2.0',
    keywords='computer vision, dynamic networks, early exit',
    classifiers=[
        'Development Status :: 4 - Beta',
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Programming Language :: Python :: 3.14',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    include_package_data=True,
    python_requires='>=3.10',
    install_requires=read_requirements('runtime'),
    extras_require=read_extras(),
    entry_points={'console_scripts': [f'{NAME} = {NAME}.cli.commands:main']},
    cmdclass={
        'build': Build,
        'build_mim': BuildMim,
        'develop': Develop
    },
    zip_safe=False)
