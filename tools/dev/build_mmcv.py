# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Print the path of a wheel of mmcv with compiled operators, built once.

    python tools/dev/build_mmcv.py [--onedl]

Run it with the Python that has torch and requirements/build.txt; ``--onedl``
is for onedl-mmcv, the fork of OneDL. Wheels are
kept in ``$MMDYNPERCEIVER_CACHE/wheels`` (by default
``${XDG_CACHE_HOME:-~/.cache}/mmdynperceiver/wheels``), one folder for each
torch, Python and platform. ``FORCE_CUDA=1`` builds them for CUDA, and
``MAX_JOBS`` limits how many files compile at once.
"""
import argparse
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections import deque
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[2] / 'requirements'
# The distributions, and where their versions stand: mmcv-lite has those of
# mmcv, and the lowest of the fork is the one that was tested.
PINS = {
    'mmcv': ('constraints.txt', r'^mmcv-lite==(\S+)'),
    'onedl-mmcv': ('onedl.txt', r'^onedl-mmcv>=(\S+)')
}
FOR_CUDA = os.environ.get('FORCE_CUDA') == '1'


class BuildError(Exception):
    """There is no wheel; the message names the remedy."""


def torch_version():
    """Read the version of the installed torch, as 2.11.0+cpu, unimported."""
    spec = importlib.util.find_spec('torch')
    if spec is None:
        raise BuildError(f'no torch in {sys.prefix}; run `make setup-test`')
    text = Path(spec.origin).with_name('version.py').read_text()
    return re.search(r"^__version__ = '(.+)'", text, re.MULTILINE).group(1)


def wheel_folder():
    """Return the folder for this torch, Python and platform."""
    base = os.environ.get('MMDYNPERCEIVER_CACHE') or os.path.join(
        os.environ.get('XDG_CACHE_HOME') or '~/.cache', 'mmdynperceiver')
    name = 'torch{}-cp{}{}-{}{}'.format(
        torch_version(), *sys.version_info[:2],
        re.sub('[-.]', '_', sysconfig.get_platform()),
        '-cuda' if FOR_CUDA else '')
    return Path(base).expanduser().resolve() / 'wheels' / name


def check_compiler():
    """Refuse to start without a compiler or Python's headers."""
    compiler = os.environ.get('CXX', 'c++').split()[0]
    if not shutil.which(compiler):
        raise BuildError(
            f'no C++ compiler ({compiler}) for the operators of mmcv, which '
            'detection needs; install one (Debian/Ubuntu: apt install g++), '
            'or name it in CXX; `make demo` needs none')
    if not Path(sysconfig.get_paths()['include'], 'Python.h').exists():
        raise BuildError(
            'the headers of Python are missing, which the operators of mmcv '
            'need; install them (Debian/Ubuntu: apt install '
            'python{}.{}-dev)'.format(*sys.version_info))


def run(command, log_path, **variables):
    """Run a command, show ninja's progress, and log what it prints."""
    start = shown = time.monotonic()
    environment = {**os.environ, **variables}
    tail = deque(maxlen=12)
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace')
    with open(log_path, 'w', buffering=1) as log, process:
        for line in process.stdout:
            log.write(line)
            tail.append(line)
            progress = re.search(r'\[\d+/\d+\]', line)
            if progress and time.monotonic() - shown >= 20:
                shown = time.monotonic()
                text = f'  compiled {progress.group()}, {shown - start:.0f} s'
                print(text, file=sys.stderr, flush=True)
    if process.returncode:
        sys.stderr.writelines(f'  | {line}' for line in tail)
        raise BuildError(
            f'the operators could not be built, see {log_path}; if memory ran '
            'out, try again with MAX_JOBS=1 in the environment')


def build(name, version, folder):
    """Build the wheel, and move it into its folder in one go."""
    check_compiler()
    folder.mkdir(parents=True, exist_ok=True)
    log_path = Path(sys.prefix, 'mmcv-build.log')
    variables = dict(MMCV_WITH_OPS='1', PYTHONUNBUFFERED='1')
    variables['PATH'] = os.pathsep.join(
        [os.path.dirname(sys.executable),
         os.environ.get('PATH', os.defpath)])
    if not FOR_CUDA:  # otherwise a GPU without nvcc would fail the build
        variables['CUDA_VISIBLE_DEVICES'] = ''
    if 'MAX_JOBS' not in os.environ and 'SC_AVPHYS_PAGES' in os.sysconf_names:
        free = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
        jobs = min(os.cpu_count() or 1, int(free / 1.5e9))  # of one compiler
        variables['MAX_JOBS'] = str(max(jobs, 1))
    with tempfile.TemporaryDirectory(prefix='.partial-', dir=folder) as place:
        # Isolation would build against a torch of its own, and pip's own
        # cache does not know torch's version.
        command = [sys.executable, '-m', 'pip', 'wheel', f'{name}=={version}']
        command += ['-v', '--no-deps', '--no-build-isolation', '--no-binary']
        command += [name, '--no-cache-dir', '--wheel-dir', place]
        run(command, log_path, TMPDIR=place, **variables)
        wheel = next(Path(place).glob(f'{name.replace("-", "_")}-*.whl'))
        names = zipfile.ZipFile(wheel).namelist()
        if not any(name.startswith('mmcv/_ext.') for name in names):
            raise BuildError(
                f'{name} has no operators after all, see {log_path}')
        return wheel.replace(folder / wheel.name)


def parse_args(options=None):
    """Read the command line, or other options."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--onedl', action='store_true', help='of onedl-mmcv, not of mmcv')
    return parser.parse_args(options)


def main(*options):
    """Print the wheel's path, or say in a line why there is none."""
    name = 'onedl-mmcv' if parse_args(options).onedl else 'mmcv'
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    file, pattern = PINS[name]
    text = (REQUIREMENTS / file).read_text()
    version = re.search(pattern, text, re.MULTILINE).group(1)
    try:
        folder = wheel_folder()
        stem = f'{name.replace("-", "_")}-{version}'
        wheel = next(folder.glob(f'{stem}-*.whl'), None)
        if wheel is None:
            print(
                f'Compiling {name} {version}: once, then kept in {folder}; '
                'about 8 minutes on two cores',
                file=sys.stderr)
            wheel = build(name, version, folder)
    except (BuildError, OSError) as error:
        sys.exit(f'Error: {error}')
    except KeyboardInterrupt:
        sys.exit(130)
    print(wheel)


if __name__ == '__main__':
    main(*sys.argv[1:])
