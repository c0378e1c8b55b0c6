# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Results of one input after the other, kept whatever happens later.

Needs neither torch nor an OpenMMLab package.
"""
import argparse
import csv
import json
import signal
import sys
import threading
from contextlib import contextmanager
from typing import (IO, Any, Callable, Dict, Iterator, List, Mapping, Optional,
                    Sequence, TextIO)

from .atomic import write_json

__all__ = [
    'ENDINGS', 'INTERRUPTED', 'ResultFile', 'add_result_options', 'printable',
    'stoppable'
]

ENDINGS = ('.json', '.jsonl', '.csv')
# Exit status of a tool that was stopped by Ctrl-C.
INTERRUPTED = 130


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of what becomes of results and of broken files."""
    parser.add_argument(
        '--on-broken',
        choices=['skip', 'raise'],
        default='skip',
        help='what to do with a file that cannot be read: name it and go on, '
        'or stop there (default: skip)')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='write all results: FILE.jsonl or FILE.csv as they come, '
        'FILE.json at the end, or when the run is stopped')


class ResultFile:
    """A file with a result for each input, as a context manager.

    ``.jsonl`` (a JSON object a line) and ``.csv`` are written as the results
    come, so that they are there even if the process is killed. ``.json`` is
    written at the end, whole or not at all; a run that is stopped or fails
    writes what was done by then. ``written`` says whether there are any.

    Args:
        path (str, optional): The file; its ending says the format, ValueError
            if it is none of these. None writes nothing.
        columns (Sequence[str]): Keys of the results that a table can hold.
        content (Callable): Makes what a JSON file holds of the list of
            results and of whether the run came to its end.
    """

    def __init__(self, path: Optional[str], columns: Sequence[str],
                 content: Callable[[List[Dict[str, Any]], bool], Any]) -> None:
        if path is not None and not path.endswith(ENDINGS):
            raise ValueError(f'an output file must end with '
                             f'{", ".join(ENDINGS)}, got {path!r}')
        self.path = path
        self.columns = list(columns)
        self.content = content
        self.written = False
        self.rows: List[Dict[str, Any]] = []
        self._file: Optional[IO[str]] = None

    def __enter__(self) -> 'ResultFile':
        return self

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep one result, of what JSON can hold."""
        if self.path is None:
            return
        if self.path.endswith('.json'):
            self.rows.append(dict(row))
            return
        file = self._open()
        if self.path.endswith('.jsonl'):
            file.write(json.dumps(row, default=float) + '\n')
        else:
            self._table(file).writerow(row)
        file.flush()
        self.written = True

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.path is not None and self.path.endswith('.json'):
            if self.rows or kind is None:
                write_json(self.path, self.content(self.rows, kind is None))
                self.written = True
        elif self.path is not None and kind is None:
            self._open()
        if self._file is not None:
            self._file.close()

    def _open(self) -> IO[str]:
        """The open file; names that are no UTF-8 stay as they are."""
        if self._file is None:
            assert self.path is not None
            self._file = open(
                self.path,
                'w',
                encoding='utf-8',
                errors='surrogateescape',
                newline='')
            if self.path.endswith('.csv'):
                self._table(self._file).writeheader()
        return self._file

    def _table(self, file: IO[str]) -> csv.DictWriter:
        """Writes rows of a table."""
        return csv.DictWriter(file, self.columns, extrasaction='ignore')


def printable(text: str, stream: Optional[TextIO] = None) -> str:
    """A name as a terminal, or another stream, can show it on one line."""
    shown = ''.join(c if c.isprintable(
    ) else c.encode('unicode_escape', 'surrogatepass').decode() for c in text)
    encoding = getattr(stream or sys.stdout, 'encoding', None) or 'utf-8'
    return shown.encode(encoding, 'backslashreplace').decode(encoding)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let what ends a process from outside stop it as Ctrl-C does.

    So that what is open can be closed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
