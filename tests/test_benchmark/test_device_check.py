# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""``tools/check_gpu.py`` from end to end, on the CPU."""
import json
import math
import runpy
import sys
import time
from pathlib import Path

import pytest
import torch

from mmdynperceiver.benchmark.device_check.parts import (NotRun, Part,
                                                         Settings, passed, row,
                                                         run_parts)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def check(monkeypatch, capsys):
    """Run the script, in this process; the exit status and what it says."""

    def run(*options):
        script = ROOT / 'tools' / 'check_gpu.py'
        monkeypatch.setattr(
            sys, 'argv', [str(script), '--device', 'cpu', '--quick', *options])
        code = 0
        try:
            runpy.run_path(str(script), run_name='__main__')
        except SystemExit as ended:
            code = ended.code
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_script(tmp_path, check):
    """All parts but those of compiling, which takes long; then the rest of
    what is asked for."""
    out = tmp_path / 'gpu.json'
    names = ['parity', 'modes', 'exits', 'data-parallel', 'batch 4', 'hosts']
    code, output = check('--out', str(out), '--parts', *names[:-1])
    assert code == 0 and 'WRONG' not in output, output
    found = json.loads(out.read_text())
    assert found['machine']['torch'] == torch.__version__
    states = {name: part['state'] for name, part in found['parts'].items()}
    assert states == {
        'parity with the published implementation': 'done',
        'modes: the same logits': 'done',
        'exits: really stopping is replaying': 'done',
        'data-parallel training': 'done',
        'speed of resnet18, batch 4': 'done',
        'speed of resnet18, compiled, batch 4': 'done'
    }
    assert (tmp_path / 'gpu.png').stat().st_size
    code, output = check('--out', str(out), '--parts', *names)
    assert code == 0 and output.count('done before') == 6
    assert 'hosts: not run' in output


def test_other_parts(tmp_path):
    """Those that the script leaves to the machine."""
    from mmdynperceiver.benchmark.device_check import correctness, speed
    settings = Settings(torch.device('cpu'), True, math.inf)
    for part in (correctness.check_training, speed.measure_step,
                 speed.measure_onnxruntime):
        assert all(
            passed(found) or found['target'] for found in part(settings))
    with pytest.raises(NotRun, match='in a checkout only'):
        correctness.check_parity(settings)


def test_refuses(tmp_path, check):
    for options, message in (
        (['--minutes', '0'], '--minutes must be positive, got 0'),
        (['--out', str(tmp_path / 'no' / 'a.json')], 'in a folder that exi'),
    ):
        code, output = check(*options)
        assert code == 2 and message in output
    out = str(tmp_path / 'a.json')
    code, output = check('--out', out, '--device', 'cuda:77')
    assert code.startswith('error: --device cuda:77 cannot be used:')


def test_faults_are_noted_and_run_again(tmp_path):
    """One part stops no other, and nothing that is done is done again."""
    ran, faults, lines = [], [ZeroDivisionError('by zero'), None], []

    def part(name, seconds=1.):

        def run(settings):
            ran.append(name)
            if name == 'faulty' and faults.pop(0):
                raise ZeroDivisionError('by zero')
            if name == 'absent':
                raise NotRun('no such package')
            return [row('nothing', math.nan, 1.), row('half', .5, 1.)]

        return Part(name, run, seconds)

    def go(machine):
        parts = [
            part('good'),
            part('faulty'),
            part('absent'),
            part('long', 1e9)
        ]
        settings = Settings(torch.device('cpu'), True, time.monotonic() + 100)
        return run_parts(parts, settings, dict(name=machine),
                         str(tmp_path / 'a.json'), lines.append)['parts']

    found = go('one')
    assert [one['state'] for one in found.values()
            ] == ['done', 'failed', 'not run', 'no time']
    assert found['faulty']['reason'] == 'ZeroDivisionError: by zero'
    assert [passed(one) for one in found['good']['rows']] == [False, True]
    found = go('one')
    assert found['faulty']['state'] == 'done'
    assert ran == ['good', 'faulty', 'absent', 'faulty', 'absent']
    faults[:] = [None]
    go('other')
    assert ran[5:] == ['good', 'faulty', 'absent']
    assert any('is of another machine or version' in line for line in lines)
