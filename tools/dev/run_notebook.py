# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run a notebook in this process, and keep what it prints and draws.

    python tools/dev/run_notebook.py docs/notebooks/own_images.ipynb

It runs in a temporary folder, so that only the notebook changes.
"""
import argparse
import base64
import io
import json
import os
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Dict, List, Tuple

import matplotlib

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.io.atomic import write_text

DOTS_PER_INCH = 80


def figures() -> List[Dict[str, Any]]:
    """What a cell has drawn, as outputs of a notebook."""
    from matplotlib import pyplot
    found = []
    for number in pyplot.get_fignums():
        file = io.BytesIO()
        pyplot.figure(number).savefig(
            file, dpi=DOTS_PER_INCH, bbox_inches='tight')
        text = base64.b64encode(file.getvalue()).decode()
        found.append(
            dict(
                output_type='display_data',
                data={'image/png': text},
                metadata={}))
    pyplot.close('all')
    return found


def run(path: Path) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Run all cells, one after the other, in the present folder.

    Args:
        path (Path): The notebook.

    Returns:
        tuple[dict, dict]: The notebook with its outputs, and the names that
        the cells have set.
    """
    matplotlib.use('Agg')
    notebook = json.loads(path.read_text(encoding='utf-8'))
    names: Dict[str, Any] = {}
    cells = [c for c in notebook['cells'] if c['cell_type'] == 'code']
    for number, cell in enumerate(cells, 1):
        with redirect_stdout(io.StringIO()) as printed:
            exec(
                compile(''.join(cell['source']), f'cell {number}', 'exec'),
                names)
        text = printed.getvalue().replace(os.getcwd() + os.sep, '')
        lines = text.splitlines(keepends=True)
        shown = [dict(output_type='stream', name='stdout', text=lines)]
        cell.update(
            execution_count=number,
            outputs=(shown if lines else []) + figures())
    return notebook, names


def main() -> None:
    """Run it and write it back."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('notebook', type=Path)
    path = parser.parse_args().notebook.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            notebook, _ = run(path)
        finally:
            os.chdir(path.parent)
    write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + '\n')


if __name__ == '__main__':
    main()
