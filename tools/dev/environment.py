# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The virtual environment of a checkout: its pip, its pins, its stamps."""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from checks import Missing

# Settings of the caller that would send packages elsewhere, or take modules
# from elsewhere.
HARMFUL_VARIABLES = ('PYTHONPATH', 'PYTHONHOME', 'PIP_TARGET', 'PIP_PREFIX',
                     'PIP_ROOT', 'PIP_USER', 'PIP_REQUIRE_HASHES',
                     'PIP_NO_DEPS', 'PIP_CONSTRAINT')


class Environment:
    """``.venv`` of a checkout.

    Args:
        root (Path): The checkout.
        profile (str): 'demo' or 'test'.
        console (Console): Where progress goes.
        renew_python (bool): Whether an environment with another minor
            version of Python than the running one is made anew. Defaults to
            False.
    """

    def __init__(self, root, profile, console, renew_python=False):
        self.root = root
        self.profile = profile
        self.console = console
        self.renew_python = renew_python
        self.folder = root / '.venv'
        self.python = self.folder / 'bin' / 'python'
        self.stamps = self.folder / '.bootstrap'
        self.temporary = self.stamps / 'tmp'
        self.constraints = root / 'requirements' / 'constraints.txt'
        self._version = None

    def python_version(self):
        """Return the version of the environment's Python, or None."""
        if self._version is None and self.python.exists():
            command = [
                str(self.python), '-c',
                'import platform; print(platform.python_version())'
            ]
            try:
                self._version = subprocess.check_output(
                    command,
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    universal_newlines=True).strip()
            except (OSError, subprocess.CalledProcessError):
                pass  # its base installation is gone: as good as no .venv
        return self._version

    def python_fits(self):
        """Tell whether there is a Python, of the version that is wanted."""
        version = self.python_version()
        if version is None:
            return False
        minor = tuple(int(part) for part in version.split('.')[:2])
        if self.renew_python:
            return minor == sys.version_info[:2]
        newest = (3, 12) if self.profile == 'test' else (3, 13)
        return (3, 10) <= minor <= newest

    def create(self):
        """Make an empty environment; an earlier one of ours goes.

        Raises:
            Missing: If there is a ``.venv`` that is somebody else's.
        """
        self.check_owner()
        self._version = None
        shutil.rmtree(str(self.folder), ignore_errors=True)
        self.stamps.mkdir(parents=True)  # marks it as ours from the start
        self.console.run([sys.executable, '-m', 'venv',
                          str(self.folder)],
                         self.variables(make_temporary=False))

    def check_owner(self):
        """Refuse to replace an environment that was not made here."""
        if self.folder.exists() and not self.stamps.is_dir():
            raise Missing(
                'there is a .venv that this set-up did not make; move it '
                'away, or remove it with `make clean`')

    def variables(self, make_temporary=True, **extra):
        """Return the environment variables for a command.

        Args:
            make_temporary (bool): Whether temporary files go into ``.venv``.
                The disk is checked there, and /tmp may be small. Defaults to
                True.
            **extra (str): Further variables.

        Returns:
            dict: The variables.
        """
        variables = dict(os.environ)
        for name in HARMFUL_VARIABLES:
            variables.pop(name, None)
        variables.update(
            PIP_DISABLE_PIP_VERSION_CHECK='1',
            PIP_NO_INPUT='1',
            PYTHONNOUSERSITE='1',
            PYTHONUNBUFFERED='1',
            PATH=os.pathsep.join(
                [str(self.folder / 'bin'),
                 os.environ.get('PATH', os.defpath)]))
        if make_temporary:
            self.temporary.mkdir(parents=True, exist_ok=True)
            variables['TMPDIR'] = str(self.temporary)
        variables.update(extra)
        return variables

    def pip(self, command, *arguments, **extra):
        """Run pip in the environment.

        Args:
            command (str): 'install', 'uninstall' or 'wheel'.
            *arguments (str): Its arguments.
            **extra (str): Environment variables.

        Returns:
            str: What it printed.
        """
        options = []
        if command == 'install':
            options += ['-c', str(self.constraints)]
        if command != 'uninstall':
            # the form that console.describe() reads; pip < 24.1 lacks it,
            # but only ever fetches the newer pip
            raw = self.pip_version() >= (24, 1)
            options += ['--progress-bar', 'raw' if raw else 'off']
        return self.console.run(
            [str(self.python), '-m', 'pip', command, *options, *arguments],
            self.variables(**extra),
            cwd=str(self.root))

    def pip_version(self):
        """Return the environment's pip as (major, minor), () without one."""
        names = [path.name for path in self.site_packages().glob('pip-*')]
        versions = [re.match(r'pip-(\d+)\.(\d+)', name) for name in names]
        return max(
            (tuple(map(int, found.groups())) for found in versions if found),
            default=())

    def site_packages(self):
        """Return the folder of the installed packages."""
        found = sorted(self.folder.glob('lib/python3.*/site-packages'))
        return found[0] if found else self.folder / 'lib'

    def installed(self, name):
        """Tell whether a distribution is there, by its folder's name."""
        pattern = '{}-*.dist-info'.format(name.replace('-', '_'))
        return any(self.site_packages().glob(pattern))

    def remove_debris(self):
        """Remove what a killed pip left half installed.

        pip writes RECORD last. Without it pip can neither use nor remove a
        package, but installs over its files once the rest of the metadata is
        gone. Names with a tilde are packages that it was about to remove.
        """
        for path in self.site_packages().glob('*.dist-info'):
            if not (path / 'RECORD').exists():
                shutil.rmtree(str(path))
        for path in self.site_packages().glob('~*'):
            if path.is_dir():
                shutil.rmtree(str(path))
            else:
                path.unlink()

    def pin(self, name):
        """Return the version that constraints.txt has for a name."""
        pattern = r'^{}==([^\s;]+)'.format(re.escape(name))
        text = self.constraints.read_text(encoding='utf-8')
        match = re.search(pattern, text, re.MULTILINE)
        if match is None:
            raise OSError('requirements/constraints.txt has no ' + name)
        return match.group(1)

    def tag(self):
        """Return the part of a wheel's folder after torch's version."""
        version = self.python_version() or '{}.{}'.format(*sys.version_info)
        python = 'cp' + ''.join(version.split('.')[:2])
        platform = re.sub(r'[-.]', '_', sysconfig.get_platform())
        cuda = '-cuda' if os.environ.get('FORCE_CUDA') == '1' else ''
        return '{}-{}{}'.format(python, platform, cuda)

    def wheel_cache(self):
        """Return the folder above those of the compiled wheels."""
        chosen = os.environ.get('MMDYNPERCEIVER_CACHE')
        if chosen:
            return Path(chosen).expanduser().resolve() / 'wheels'
        base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
        return Path(base).expanduser() / 'mmdynperceiver' / 'wheels'

    def digest(self, *inputs):
        """Hash strings, and the contents of files.

        Args:
            *inputs (str | Path): A path stands for its file's contents.

        Returns:
            str: The hash.
        """
        sha = hashlib.sha256()
        for item in inputs:
            if isinstance(item, Path):
                item = item.read_bytes() if item.exists() else b'none'
            else:
                item = str(item).encode()
            sha.update(b'%d:' % len(item) + item)
        return sha.hexdigest()
