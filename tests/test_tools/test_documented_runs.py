# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Commands of pages that no test runs as a whole, on a tiny network."""
import re
import shutil

import pytest
from documented_commands import find_commands

PAGES = ('docs/training.md', )
COMMANDS = [
    command for command in find_commands()
    if command.page in PAGES and 'doctor' not in command.words[-1]
]


@pytest.fixture(scope='module')
def place(tmp_path_factory, trained):
    """A folder to run in, with a checkpoint; files stay between commands."""
    folder = tmp_path_factory.mktemp('documented')
    shutil.copy(trained / 'epoch_1.pth', folder / 'model.pth')
    return folder


def reduce(words, config, images, place):
    """The same command for a tiny network and a few images."""
    changes = [
        (r'^(configs/\S+\.py|CONFIG)$', config),
        (r'^(\S+\.pth|CHECKPOINT)$', 'model.pth'),
        (r"checkpoint='[^']+'", "checkpoint='model.pth'"),
        (r'^data_root=.*', f'data_root={images}'),
        (r'num_classes=\d+', 'num_classes=3'),
        (r'^(photos/|my\.jpg)$', str(images / 'val')),
        (r'^operating_point\.json$', 'point.json'),
        (r'LIST$', str(next(place.rglob('hold_out_*.txt'), ''))),
        (r'^50%$', '95%'),
    ]
    reduced = []
    for word in words:
        for pattern, new in changes:
            word = re.sub(pattern, lambda _: new, word)  # noqa: B023
        if reduced and reduced[-1] == '--hold-out':
            word = '3'
        reduced.append(word)
    if '--latency-table' in reduced:
        # Measured on the demo's network.
        where = reduced.index('--latency-table')
        del reduced[where:where + 2]
    if '--test' in reduced and '--hold-out' not in reduced:
        # The tiny config has no third set of images.
        reduced += ['--split', 'test', '--hold-out', '3']
    if '--hold-out' in reduced and '--budget-macs' not in reduced and \
            'model.pth' in reduced:
        # What the page leaves out.
        reduced += [
            '--budget-macs', '95%', '--cfg-options',
            f'train_dataloader.dataset.exclude={changes[7][1]}'
        ]
    return reduced


@pytest.mark.parametrize(
    'command',
    COMMANDS,
    ids=[
        f'{c.page}-{" ".join(c.words[1:2])}-{i}'
        for i, c in enumerate(COMMANDS)
    ])
def test_runs(command, config, images, place, tool, monkeypatch):
    if 'Tensorboard' in str(command.words):
        pytest.importorskip('tensorboard')
    monkeypatch.chdir(place)
    words = reduce(command.words, config(), images, place)
    output, error = tool(words[1][len('tools/'):-len('.py')], *words[2:])
    assert error is None, output[-2000:]
