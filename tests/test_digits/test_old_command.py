# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""``python -m mmdynperceiver.datagen`` for those who have it in scripts."""
import shutil
import subprocess
import sys

COMMAND = [sys.executable, '-m', 'mmdynperceiver.datagen', 'out']


def run(folder, tmp_path, *args):
    return subprocess.run([*COMMAND, *args],
                          cwd=tmp_path,
                          env=dict(
                              PYTHONPATH=str(folder), OMP_NUM_THREADS='1'),
                          capture_output=True,
                          text=True)


def test_forwards_in_a_checkout(repo_root, tmp_path):
    result = run(repo_root, tmp_path, '--train', '10', '--val', '0', '--test',
                 '0', '--size', '32')
    assert result.returncode == 0, result.stderr
    assert 'is now projects.digits' in result.stderr
    assert len(list((tmp_path / 'out').rglob('*.jpg'))) == 10


def test_says_where_it_went_in_a_wheel(repo_root, tmp_path):
    package = tmp_path / 'site/mmdynperceiver'
    package.mkdir(parents=True)
    (package / '__init__.py').touch()
    shutil.copy(repo_root / 'mmdynperceiver/datagen.py', package)
    result = run(tmp_path / 'site', tmp_path)
    assert result.returncode == 2 and not (tmp_path / 'out').exists()
    line, = result.stderr.splitlines()
    assert 'projects.digits` in a checkout' in line
