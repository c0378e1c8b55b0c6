# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The files of a release, their checksums and their commands."""
import hashlib
import shlex
import sys
import zipfile

import pytest
from documented_commands import ROOT
from tiny import load_tool

from mmdynperceiver.core import OperatingPoint

pytest.importorskip('safetensors')


@pytest.fixture
def release(monkeypatch):
    """Run the tool on other releases; returns what ended it."""
    tool = load_tool('dev/release_weights')

    def run(releases, *args):
        monkeypatch.setattr(tool, 'RELEASES', releases)
        monkeypatch.setattr(sys, 'argv', ['release', *map(str, args)])
        try:
            tool.common.run_tool(tool.main)
        except SystemExit as stop:
            return stop.code
        return None

    run.tool = tool
    return run


def test_the_same_files_of_the_same_checkpoint(release, config, trained,
                                               tmp_path):
    from mmdynperceiver.hub import from_pretrained
    point = tmp_path / 'point.json'
    OperatingPoint((0.5, 0.6, 0.7)).save(point)
    one = release.tool.Release('colours',
                               config(), str(trained / 'epoch_1.pth'),
                               str(point), ['make colours'], 'nine images', 32)
    sums = []
    for name in ('one', 'two'):
        assert release([one], tmp_path / name) is None
        sums.append((tmp_path / name / 'SHA256SUMS').read_text())
    assert sums[0] == sums[1]
    digest, name = sums[0].split()
    packed = tmp_path / 'one' / name
    assert hashlib.sha256(packed.read_bytes()).hexdigest() == digest
    with zipfile.ZipFile(packed) as file:
        file.extractall(tmp_path / 'unpacked')
    net = from_pretrained(tmp_path / 'unpacked/colours')
    assert net.policy.thresholds == (0.5, 0.6, 0.7)
    assert net.about['trained on'] == 'nine images'
    how = (tmp_path / 'one/COMMANDS.md').read_text()
    assert 'make colours' in how and 'mmdynperceiver share ' in how
    assert 'something at' in release([one], tmp_path / 'one')


def test_what_was_not_trained_is_named(release, tmp_path):
    row = release.tool.Release('a', str(tmp_path / 'none.py'), '', '',
                               ['make a'], '', 32)
    error = release([row], tmp_path / 'out')
    assert 'a needs' in error and 'make a' in error
    error = release([row], tmp_path / 'out', 'b')
    assert "no release 'b': they are a" in error
    assert not list(tmp_path.iterdir())


def test_the_rows_are_those_of_the_docs(release):
    page = (ROOT / 'docs/cifar.md').read_text()
    for row in release.tool.RELEASES:
        assert (ROOT / row.config).is_file()
    words = shlex.split(release.tool.RELEASES[1].made_by[-1])
    for option in ('--budget-macs', '--split', '--hold-out'):
        value = words[words.index(option) + 1]
        assert f'{option} {value}' in page
