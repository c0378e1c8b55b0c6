# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The rooms of the package: imports go downwards, and never in a circle."""
import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'mmdynperceiver'

# From the bottom to the top; a room imports what stands before it.
ROOMS = ('version', 'exit_settings', 'progress', 'compat', 'errors', 'io',
         'datasets', 'core', 'deploy', 'calibration', 'report', 'benchmark',
         'hosts', 'registry', 'classification', 'recognition', 'detection',
         'hub', 'serve', 'cli', 'fitting', 'remedies', 'doctor', 'datagen',
         '__main__')
HOSTS = {'mmengine', 'mmcv', 'mmpretrain', 'mmaction', 'mmdet'}
ADAPTERS = ('classification', 'recognition', 'detection')
# Upwards, inside a function that runs when a host is patched or has failed:
# what stands below works without it.
LATE = {
    ('compat', 'doctor'),  # says what fixes a broken host
    ('compat', 'io'),  # mmengine writes and reads its checkpoints by it
    ('compat', 'hosts'),  # the hosts' tools fit their schedules by it
}


def modules():
    """The name of each module, below the package's, with its file."""
    for path in sorted(PACKAGE.rglob('*.py')):
        if '.mim' not in path.parts:
            parts = path.relative_to(PACKAGE).with_suffix('').parts
            yield '.'.join(p for p in parts if p != '__init__'), path


MODULES = dict(modules())


def imports(name, path):
    """Modules of the package that one imports, and whether at its top."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    base = ['mmdynperceiver', *filter(None, name.split('.'))]
    if path.name != '__init__.py':
        base.pop()
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = base[:len(base) - node.level + 1] if node.level else []
            source = '.'.join(start + ([node.module] if node.module else []))
            found = [
                f'{source}.{alias.name}'
                if f'{source}.{alias.name}'.partition('.')[2] in MODULES else
                source for alias in node.names
            ]
        for each in found:
            root, _, module = each.partition('.')
            if root == 'mmdynperceiver' and module:
                yield module, id(node) in top


EDGES = [(name, other, top) for name, path in MODULES.items()
         for other, top in imports(name, path)]


def room(module):
    return module.partition('.')[0]


def test_every_room_has_its_place():
    assert {room(name) for name in MODULES} - {''} == set(ROOMS)


def test_imports_go_downwards():
    upwards = {
        (name, other)
        for name, other, top in EDGES
        if name and ROOMS.index(room(name)) < ROOMS.index(room(other)) and (
            top or (room(name), room(other)) not in LATE)
    }
    assert not upwards


def test_adapters_do_not_meet():
    assert not [(name, other)
                for name, other, _ in EDGES if room(name) in ADAPTERS
                and room(other) in ADAPTERS and room(name) != room(other)]


def test_no_circle():
    """Modules, apart from what a package shows of its own modules."""
    graph = {}
    for name, other, top in EDGES:
        of_own_package = MODULES[other].name == '__init__.py' and (
            name + '.').startswith(other + '.')
        if top and not of_own_package:
            graph.setdefault(name, set()).add(other)
    assert list(TopologicalSorter(graph).static_order())


def packages(path):
    """The other packages that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition('.')[0]


@pytest.mark.parametrize('name', [n for n in MODULES if room(n) == 'core'])
def test_core_knows_no_host(name):
    assert HOSTS.isdisjoint(packages(MODULES[name]))
