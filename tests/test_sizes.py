# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Files and functions that a reader takes in at once."""
import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('mmdynperceiver', 'configs', 'projects', 'tools', 'tests')
FILES = [
    path for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob('*.py'))
    if '.mim' not in path.parts
]


def long_functions(tree):
    """Names and lines of those above 50; docstrings do not count."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= first.end_lineno - first.lineno + 1
            if lines > 50:
                yield f'{node.name}: {lines}'


def test_sizes():
    long = []
    for path in FILES:
        text = path.read_text()
        if text.count('\n') > 350:
            long.append(str(path))
        long += [f'{path}: {name}' for name in long_functions(ast.parse(text))]
    assert long == []
