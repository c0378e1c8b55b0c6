# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The script that tries other stacks, with a stand-in for uv."""
import os
import subprocess
import sys

import pytest

UV = '''#!/bin/bash
cd {folder}
echo "$*" >>calls
case "$1 $2" in
    "venv --python") [ "$3" != 3.14 ] || exit 1
        mkdir -p "$4/bin"
        cp python "$4/bin/" ;;
    "pip install") [[ "$*" != *2.99* ]] || {{ echo "no | such"; exit 1; }} ;;
esac
'''
# Tells versions, then how the tests ended.
PYTHON = '''#!/bin/bash
if [ "$1" = -c ]; then
    echo '{"torch": "2.15.0", "torchvision": "0.3", "numpy": "2.5",' \\
        '"Python": "3"}'
elif [[ "$1" = *build_mmcv.py ]]; then
    echo "a$2.whl"
else
    echo FAILED tests/test_a.py::test_b - no
    echo SUMMARY
    exit CODE
fi
'''


@pytest.fixture
def stacks(repo_root, tmp_path):
    """Run the script; the result and how uv was called."""

    def run(summary, code, *options):
        for name, text in (('uv', UV.format(folder=tmp_path)),
                           ('python', PYTHON.replace('SUMMARY', summary))):
            (tmp_path / name).write_text(text.replace('CODE', code))
            (tmp_path / name).chmod(0o755)
        result = subprocess.run([
            sys.executable,
            str(repo_root / 'tools/dev/stacks.py'), '--folder',
            str(tmp_path), *options
        ],
                                env={
                                    **os.environ, 'PATH':
                                    f'{tmp_path}:{os.environ["PATH"]}'
                                },
                                capture_output=True,
                                text=True,
                                timeout=60)
        return result, (tmp_path / 'calls').read_text().splitlines()

    return run


def test_table(stacks, tmp_path):
    out = tmp_path / 'table.md'
    result, calls = stacks('7 passed, 2 skipped in 3.2s', '0', '--torch',
                           '2.15.0', '--python', '3.11', '3.14', '--family',
                           'onedl', '--out', str(out))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[2].startswith(
        '| 2.15.0 | 0.3 | 2.5 | 3 | onedl | 7 | 0 | 2 | ')
    assert lines[3].endswith('| no Python 3.14 here |')
    assert out.read_text() == result.stdout
    assert 'onedl-mmengine' in calls[2] and ' mmengine' not in calls[2]
    assert "--no-build-isolation" not in calls[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'calls', 'python', 'table.md', 'uv'
    ]  # environments are gone


def test_failures(stacks):
    options = ('--python', '3.11', '--family', 'openmmlab', '--torch')
    result, _ = stacks('1 failed, 6 passed, 1 error in 3.2s', '1', *options,
                       '2.15.0', '2.99')
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert '| openmmlab | 6 | 2 | 0 |' in lines[2]
    assert 'tests/test_a.py::test_b |' in lines[2]
    assert lines[3].endswith('| not installed: no / such |')


@pytest.mark.parametrize('family, detector, without, wheel', [
    ('openmmlab', 'mmdet', 'mmcv-lite', 'a.whl'),
    ('onedl', 'onedl-mmdetection', 'onedl-mmcv', 'a--onedl.whl'),
])
def test_detectors_get_compiled_operators(stacks, family, detector, without,
                                          wheel):
    result, calls = stacks('1 passed in 3.2s', '0', '--python', '3.11',
                           '--torch', '2.15.0', '--family', family,
                           '--detection')
    assert result.returncode == 0, result.stderr
    assert f' {without} ' in calls[2] and f' {detector} ' in calls[2]
    assert calls[2].endswith(' -r requirements/build.txt')
    assert calls[3].startswith('pip uninstall')
    assert calls[3].endswith(f' {without}')
    assert calls[4].endswith(f' --no-deps {wheel}') and len(calls) == 5
