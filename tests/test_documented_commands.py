# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What README and docs tell users to type is understood."""
import importlib
import importlib.util
import sys

import pytest
from documented_commands import ROOT, find_commands

from mmdynperceiver.cli.commands import COMMANDS as COMMAND_ROWS
from mmdynperceiver.cli.commands import PROGRAM

pytest.importorskip('mmengine')

COMMANDS = find_commands()
# A page may leave a choice to the reader.
EXAMPLES = {
    'CONFIG': 'configs/imagenet/dyn-perceiver_regnety-800mf_8xb128_in1k.py'
}


def load(words):
    """The program that a command starts, and its arguments."""
    if words[1] == '-m':
        name = words[2]
        if name == PROGRAM and words[3:] and words[3] in COMMAND_ROWS:
            row = COMMAND_ROWS[words[3]]
            return importlib.import_module(
                f'{PROGRAM}.{row.module}'), words[4:]
        if importlib.util.find_spec(name).submodule_search_locations:
            name += '.__main__'
        return importlib.import_module(name), words[3:]
    path = ROOT / words[1]
    spec = importlib.util.spec_from_file_location(f'said_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, words[2:]


def example(word):
    """A path in place of a placeholder such as configs/coco/CONFIG.py."""
    if word.endswith('/CONFIG.py'):
        return str(sorted((ROOT / word).parent.glob('*.py'))[0])
    return EXAMPLES.get(word, word)


@pytest.mark.parametrize(
    'command',
    COMMANDS,
    ids=[f'{c.page}-{" ".join(c.words[1:3])}' for c in COMMANDS])
def test_is_understood(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv('LOCAL_RANK', '0')
    if command.words[1] == '-m' and command.words[2] in ('venv',
                                                         'http.server'):
        pytest.skip('a program of Python itself')
    if command.words[1] != '-m':  # as where Python runs a file
        monkeypatch.syspath_prepend((ROOT / command.words[1]).parent)
    module, words = load(command.words)
    if not hasattr(module, 'parse_args'):
        # It reads its options in main(), and says what it takes.
        with pytest.raises(SystemExit) as stop:
            monkeypatch.setattr(sys, 'argv', [command.words[1], '--help'])
            module.main()
        assert stop.value.code == 0
        return
    words = [example(word) for word in words]
    monkeypatch.setattr(sys, 'argv', [command.words[1], *words])
    takes_words = command.words[1] == '-m' and command.words[2] != PROGRAM
    args = module.parse_args(words) if takes_words else module.parse_args()
    if getattr(args, 'config', None) and hasattr(args, 'cfg_options'):
        check_config(args, module.common)
        if command.words[1] == 'tools/export.py':
            # The size of the images is known.
            args.cfg_options = None
            from mmdynperceiver.cli.export import read_transform
            read_transform(module.common.load_config(args), args.size)


def check_config(args, cli):
    """The config is there, and its options name what it has."""
    options, args.cfg_options = dict(args.cfg_options or {}), None
    known = cli.load_config(args)
    for key in options:
        node = known
        for part in key.split('.')[:-1]:
            assert part in node, f'{key} is not in {args.config}'
            node = node[part]
    args.cfg_options = options
    changed = cli.load_config(args)
    for key, value in options.items():
        node = changed
        for part in key.split('.'):
            node = node[part]
        if isinstance(value, dict):
            assert {**value, **node} == dict(node)
        else:
            assert node == value


def test_commands_are_found():
    pages = {command.page for command in COMMANDS}
    assert {
        'README.md', 'docs/calibration.md', 'docs/cifar.md', 'docs/deploy.md',
        'docs/detection.md', 'docs/video.md', 'configs/imagenet/README.md'
    } <= pages
    options = [word for command in COMMANDS for word in command.words]
    assert any(
        word.startswith('model.backbone.init_cfg=dict(') for word in options)
