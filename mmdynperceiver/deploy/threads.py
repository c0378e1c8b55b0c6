# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How many threads a runtime may use."""
import math
import os
from typing import Iterator, Optional

__all__ = ['available_threads', 'check_threads']

# No network here has work for more, and each takes memory.
MAX_THREADS = 1024


def check_threads(threads: Optional[int]) -> int:
    """The number of threads; for None see :func:`available_threads`."""
    if threads is None:
        return available_threads()
    # A NumPy integer has an index, too; a boolean is most likely a mistake.
    if isinstance(threads, bool) or not hasattr(threads, '__index__'):
        raise ValueError(f'threads must be a whole number, got {threads!r}')
    if not 1 <= threads.__index__() <= MAX_THREADS:
        limit = 'at least 1' if threads < 1 else f'at most {MAX_THREADS}'
        raise ValueError(f'threads must be {limit}, got {threads}')
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
    for line in _read(root, 'proc/self/cgroup').splitlines():
        _, controllers, path = (line.split(':', 2) + ['', ''])[:3]
        names, files = [''], ['cpu.max']
        if controllers:
            if 'cpu' not in controllers.split(','):
                continue
            names = [controllers, 'cpu', 'cpu,cpuacct']
            files = ['cpu.cfs_quota_us', 'cpu.cfs_period_us']
        parts = [part for part in path.split('/') if part not in ('', '..')]
        for name in names:
            # The group and those above it. In a container the path may be
            # the host's; what is at the mount is the container's then.
            for count in range(len(parts), -1, -1):
                folder = os.path.join(mounts, name, *parts[:count])
                values = ' '.join(_read(folder, file) for file in files)
                quota, _, period = values.strip().partition(' ')
                # Not so without a limit ('max', -1), or without the file.
                if quota.isdecimal() and period.strip().isdecimal() and \
                        int(quota) and int(period):
                    yield int(quota) / int(period)


def _read(folder: str, name: str) -> str:
    """A small text file; nothing if it cannot be read."""
    try:
        with open(os.path.join(folder, name), encoding='utf-8') as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ''
