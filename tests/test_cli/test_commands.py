# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The one command line in front of all programs."""
import importlib.util
import re

import pytest

from mmdynperceiver.cli import commands
from mmdynperceiver.cli.commands import COMMANDS, main

# What is said in one way, and where it says something.
SAID = {
    'threads':
    'demo fit train test calibrate calibrate-detector benchmark export '
    'predict share serve',
    'quiet':
    'demo fit train test calibrate calibrate-detector benchmark export '
    'predict share serve',
    'device':
    'demo fit train test calibrate calibrate-detector benchmark check-gpu '
    'predict',
    'thresholds':
    'test benchmark export predict share serve',
    'thresholds-file':
    'test benchmark export predict share serve calibrate calibrate-detector',
    'exit':
    'test export predict share serve',
}


def test_every_row_has_its_module():
    for command in COMMANDS.values():
        assert importlib.util.find_spec(f'mmdynperceiver.{command.module}')


def test_help_names_all_and_imports_little(run_python):
    result = run_python(
        'import sys, mmdynperceiver.cli.commands as c\n'
        'try:\n    c.main(["--help"])\nexcept SystemExit: pass\n'
        'print({"torch", "mmengine", "numpy"} & set(sys.modules) or "none")')
    assert result.stdout.strip().endswith('none'), result.stderr
    for name, command in COMMANDS.items():
        assert re.search(rf'^  {name} +{command.summary[:20]}', result.stdout,
                         re.MULTILINE)


def test_without_a_command(capsys):
    assert main([]) == 2
    assert 'calibrate' in capsys.readouterr().out


def test_an_unknown_command_is_named(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['traim', 'config.py'])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "'traim'" in error and "'train'" in error


@pytest.mark.parametrize('name', [n for n in COMMANDS if n != 'doctor'])
def test_each_has_help_under_its_name(name, capsys):
    pytest.importorskip('mmengine')
    if name == 'calibrate-detector':
        pytest.importorskip('mmcv')
    with pytest.raises(SystemExit) as stop:
        main([name, '--help'])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f'usage: mmdynperceiver {name} ' in text
    options = set(re.findall(r'^  --([\w-]+)', text, re.MULTILINE))
    for option, programs in SAID.items():
        assert (option in options) == (name in programs.split()), option


def test_errors_and_ctrl_c_are_one_line(capsys):
    pytest.importorskip('mmengine')
    with pytest.raises(SystemExit, match='error: .*no_such.py'):
        main(['train', 'no_such.py'])


def test_a_missing_host_stops_only_what_needs_it(monkeypatch):
    row = commands.Command('cli.no_such_module', 'nothing')
    monkeypatch.setitem(COMMANDS, 'broken', row)
    with pytest.raises(SystemExit, match='broken cannot start: .*doctor'):
        main(['broken'])
    monkeypatch.setattr('mmdynperceiver.doctor.main', lambda: 0)
    assert main(['doctor']) == 0


def test_the_exit_status_is_passed_on(monkeypatch):
    monkeypatch.setattr('mmdynperceiver.doctor.main', lambda: 3)
    with pytest.raises(SystemExit) as stop:
        main(['doctor'])
    assert stop.value.code == 3
