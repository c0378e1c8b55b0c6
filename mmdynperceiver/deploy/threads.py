# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How many threads a runtime may use."""
import math
import os
from typing import Iterator, List, Optional, Union

__all__ = ['available_threads', 'check_threads']

# No network here has work for more, and each takes memory.
MAX_THREADS = 1024


def check_threads(threads: Optional[int]) -> int:
    """The number of threads, or that of the cores that there are.

    Args:
        threads (int, optional): The number asked for; None, see
            :func:`available_threads`.

    Raises:
        ValueError: If it is no whole number of at least 1, or a mistake.
    """
    if threads is None:
        return available_threads()
    # A NumPy integer has an index, too; a boolean is most likely a mistake.
    if isinstance(threads, bool) or not hasattr(threads, '__index__'):
        raise ValueError(f'threads must be a whole number, got {threads!r}')
    if threads.__index__() < 1:
        raise ValueError(f'threads must be at least 1, got {threads}')
    if threads.__index__() > MAX_THREADS:
        raise ValueError(f'threads must be at most {MAX_THREADS}, got '
                         f'{threads}')
    return threads.__index__()


def available_threads(root: str = '/') -> int:
    """How many threads find a core.

    That is the least of the cores that the process may run on, of the CPU
    quota of its container (control groups of version 1 or 2; a fraction of a
    core counts as none, but one thread there always is), and of
    ``OMP_NUM_THREADS``.

    Args:
        root (str): Root of the file system. Defaults to '/'.
    """
    found = [float(_cores()), *_quotas(root)]
    wanted = os.environ.get('OMP_NUM_THREADS', '').partition(',')[0].strip()
    if wanted.isdecimal() and int(wanted):
        found.append(int(wanted))
    return max(1, math.floor(min(found)))


def _cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: str) -> Iterator[float]:
    """The cores that each control group of this process may use up."""
    mounts = os.path.join(root, 'sys/fs/cgroup')
    for line in _read(os.path.join(root, 'proc/self/cgroup')).splitlines():
        _, controllers, path = (line.split(':', 2) + ['', ''])[:3]
        if not controllers:
            for folder in _upwards(mounts, path):
                yield from _quota(_read(os.path.join(folder, 'cpu.max')))
        elif 'cpu' in controllers.split(','):
            for name in {controllers, 'cpu', 'cpu,cpuacct'}:
                for folder in _upwards(os.path.join(mounts, name), path):
                    yield from _quota(' '.join(
                        _read(os.path.join(folder, f'cpu.cfs_{part}_us'))
                        for part in ('quota', 'period')))


def _upwards(mount: str, path: str) -> List[str]:
    """The folder of a group and those above it.

    In a container the path may be the host's; what is at the mount is the
    container's then.
    """
    parts = [part for part in path.split('/') if part not in ('', '..')]
    return [
        os.path.join(mount, *parts[:count])
        for count in range(len(parts), -1, -1)
    ]


def _quota(text: str) -> List[float]:
    """'microseconds period' -> cores; none without a limit."""
    values = text.split()
    if len(values) != 2 or not all(value.isdecimal() for value in values):
        return []  # 'max', -1, or there is no such file
    quota, period = map(int, values)
    return [quota / period] if quota and period else []


def _read(path: Union[str, os.PathLike]) -> str:
    """A small text file; nothing if it cannot be read."""
    try:
        with open(path, encoding='utf-8') as file:
            return file.read()
    except (OSError, ValueError):
        return ''
