# Copyright (c) mmdynperceiver contributors. All rights reserved.
import os

import numpy as np
import pytest

from mmdynperceiver.deploy import threads as module
from mmdynperceiver.deploy.threads import available_threads, check_threads


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch):
    monkeypatch.setattr(module, '_cores', lambda: 16)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)


def write(root, **files):
    """Files of a system with control groups."""
    for name, text in files.items():
        path = root / name.replace('__', '/').replace('_DOT_', '.')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize('quota, expected', [('max 100000', 16),
                                             ('400000 100000', 4),
                                             ('250000 100000', 2),
                                             ('50000 100000', 1),
                                             ('9900000 100000', 16), ('', 16),
                                             ('0 0', 16), ('-1 100000', 16)])
def test_quota_of_version_2(tmp_path, quota, expected):
    write(
        tmp_path,
        proc__self__cgroup='0::/\n',
        sys__fs__cgroup__cpu_DOT_max=quota + '\n')
    assert available_threads(str(tmp_path)) == expected


def test_the_least_quota_on_the_way_up_counts(tmp_path):
    write(
        tmp_path,
        proc__self__cgroup='0::/a/b\n',
        sys__fs__cgroup__a__cpu_DOT_max='300000 100000\n',
        sys__fs__cgroup__a__b__cpu_DOT_max='max 100000\n')
    assert available_threads(str(tmp_path)) == 3


@pytest.mark.parametrize('controllers', ['cpu,cpuacct', 'cpu'])
@pytest.mark.parametrize('group', ['/', '/of/the/host'])
def test_quota_of_version_1(tmp_path, controllers, group):
    """In a container its path may be the host's."""
    write(tmp_path, proc__self__cgroup=f'4:memory:/\n3:{controllers}:{group}')
    folder = tmp_path / 'sys/fs/cgroup' / controllers
    write(folder, **{
        'cpu.cfs_quota_us': '200000\n',
        'cpu.cfs_period_us': '100000\n'
    })
    assert available_threads(str(tmp_path)) == 2
    write(folder, **{'cpu.cfs_quota_us': '-1\n'})
    assert available_threads(str(tmp_path)) == 16


@pytest.mark.parametrize('value, expected', [('3', 3), ('2,4', 2), ('0', 16),
                                             ('', 16), ('many', 16),
                                             ('99', 16)])
def test_omp_num_threads(tmp_path, monkeypatch, value, expected):
    monkeypatch.setenv('OMP_NUM_THREADS', value)
    assert available_threads(str(tmp_path)) == expected


def test_cores_are_those_of_the_affinity(monkeypatch):
    monkeypatch.undo()
    assert module._cores() == len(os.sched_getaffinity(0))


def test_threads_are_checked():
    assert check_threads(3) == 3 == check_threads(np.int64(3))
    assert check_threads(None) >= 1
    for value in (0, -1, True, 2., '2', np.float32(2), [2], 10**6):
        with pytest.raises(ValueError, match='^threads must be'):
            check_threads(value)
