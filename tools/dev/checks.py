# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What must be there before work starts: one clear line for what is not."""
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile


class Missing(Exception):
    """A prerequisite is missing; the message names the remedy."""


def check_python(profile):
    """Refuse a Python for which the pinned stack does not exist."""
    version = '{}.{}.{}'.format(*sys.version_info[:3])
    newest = (3, 12) if profile == 'test' else (3, 13)
    if not (3, 10) <= sys.version_info[:2] <= newest:
        reason = ''
        if (3, 12) < sys.version_info[:2] <= (3, 13):
            reason = ' (mmcv 2.1.0 cannot be built with a later one)'
        raise Missing(
            'Python 3.10 to {}.{} is needed{}, this is {}; install Python '
            '3.11 or name another one: make {} PYTHON=/path/to/python'.format(
                newest[0], newest[1], reason, version, profile))
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise Missing(
            'this Python {} has no module venv; install it (Debian/Ubuntu: '
            'apt install python{}.{}-venv)'.format(version,
                                                   *sys.version_info[:2]))


def check_disk(folder, needed_gb):
    """Refuse to start what the disk cannot hold."""
    free_gb = shutil.disk_usage(str(folder)).free / 1e9
    if free_gb < needed_gb:
        raise Missing(
            'about {:.0f} GB of free disk are needed in {}, {:.1f} GB are '
            'free; free some, or clone to a larger disk'.format(
                needed_gb, folder, free_gb))


def check_compiler():
    """Compile a file as the build of mmcv would."""
    compiler = os.environ.get('CXX', 'c++').split()
    remedy = (
        'install one (Debian/Ubuntu: apt install g++), or name it in CXX; '
        '`make demo` needs none')
    if not shutil.which(compiler[0]):
        raise Missing(
            'no C++ compiler ({}) for the operators of mmcv, which detection '
            'needs; {}'.format(compiler[0], remedy))
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, 'probe.cpp')
        includes = ['-I' + sysconfig.get_paths()['include']]
        for header, missing in (
            ('string', 'the C++ compiler ({}) does not work; {}'.format(
                compiler[0], remedy)),
            ('Python.h', 'the headers of Python are missing, which the '
             'operators of mmcv need; install them (Debian/Ubuntu: apt '
             'install python{}.{}-dev)'.format(*sys.version_info[:2]))):
            with open(source, 'w') as file:
                file.write('#include <{}>\nint main() {{}}\n'.format(header))
            command = compiler + ['-std=c++17', '-fsyntax-only'] + includes
            result = subprocess.run(
                command + [source],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL)
            if result.returncode:
                raise Missing(missing)


# What pip prints, and what helps. The first that matches is told.
REMEDIES = (
    (r'No space left on device|Errno 28', 'the disk is full; free some space '
     'and run the same command again, it goes on where it stopped'),
    (r'Could not fetch URL|NewConnectionError|NameResolution|ConnectTimeout|'
     r'ReadTimeout|ProxyError|ConnectionError|SSLError|Connection reset|'
     r'Network is unreachable|Temporary failure in name resolution|timed out|'
     r'connection broken', 'the package index cannot be reached; check the '
     'network and the proxy (HTTPS_PROXY, pip config list), then run the same '
     'command again, it goes on where it stopped'),
    (r'No matching distribution|Could not find a version|'
     r'ResolutionImpossible|requires a different Python', 'the pinned '
     'versions are not to be had for this Python or platform; try Python '
     '3.11: make clean, then make PYTHON=python3.11 ...'),
    (r'Killed signal|out of memory|MemoryError', 'the compiler failed, often '
     'for want of memory; try again with MAX_JOBS=1 in the environment'),
    (r'libGL|libgthread|libglib', 'a system library of OpenCV is missing '
     '(Debian/Ubuntu: apt install libgl1 libglib2.0-0)'),
)


def remedy_for(output):
    """Say what to do about a failed command.

    Args:
        output (str): What it printed.

    Returns:
        str: One line.
    """
    for pattern, remedy in REMEDIES:
        if re.search(pattern, output):
            return remedy
    return (
        'see the log for what went wrong and run the same command again, it '
        'goes on where it stopped; `make clean` starts afresh')
