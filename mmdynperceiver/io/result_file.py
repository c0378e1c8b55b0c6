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

from .atomic import atomic_file, write_json
from .describe import one_line

__all__ = [
    'ENDINGS', 'INTERRUPTED', 'ResultFile', 'add_result_options',
    'exit_status', 'import_pyarrow', 'positive', 'printable', 'stoppable',
    'write_parquet'
]

ENDINGS = ('.json', '.jsonl', '.csv', '.parquet')
# Written at the end, whole or not at all.
AT_ONCE = ('.json', '.parquet')
# Exit status of a tool that was stopped by Ctrl-C.
INTERRUPTED = 130


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, got {value}')
    return value


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
        'FILE.json or FILE.parquet at the end, or when the run is stopped')


class ResultFile:
    """A file with a result for each input, as a context manager.

    ``.jsonl`` (a JSON object a line) and ``.csv`` are written as the results
    come, so that they are there even if the process is killed. ``.json`` and
    ``.parquet``, which needs pyarrow, are written at the end, whole or not at
    all; a run that is stopped or fails writes what was done by then.
    ``written`` says whether there are any.

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
        if path is not None and path.endswith('.parquet'):
            import_pyarrow()  # before there is work to lose
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
        if self.path.endswith(AT_ONCE):
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
        if self.path is not None and self.path.endswith(AT_ONCE):
            if self.rows or kind is None:
                self._write_at_once(kind is None)
                self.written = True
        elif self.path is not None and kind is None:
            self._open()
        if self._file is not None:
            self._file.close()

    def _write_at_once(self, complete: bool) -> None:
        """Write a file that holds all results."""
        assert self.path is not None
        if self.path.endswith('.parquet'):
            write_parquet(self.path, self.columns, self.rows)
        else:
            write_json(self.path, self.content(self.rows, complete))

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


def import_pyarrow() -> Any:
    """The modules pyarrow and pyarrow.parquet.

    Raises:
        ImportError: Saying what to install.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            'a .parquet file needs pyarrow: pip install pyarrow, or '
            '"mmdynperceiver[parquet]", or write .csv or .json') from error
    return pyarrow, pyarrow.parquet


def write_parquet(path: str,
                  columns: Sequence[str],
                  rows: Sequence[Mapping[str, Any]],
                  types: Optional[Mapping[str, str]] = None) -> None:
    """Write a table with these columns and what else the rows hold, whole or
    not at all; what a row lacks is null.

    Without ``types`` of all columns, such as 'int64', the values say them.
    """
    pyarrow, parquet = import_pyarrow()
    schema = types and pyarrow.schema([(name, pyarrow.type_for_alias(kind))
                                       for name, kind in types.items()])
    names = list(dict.fromkeys([*columns, *(k for row in rows for k in row)]))
    table = pyarrow.table(
        {name: [_text(row.get(name)) for row in rows]
         for name in names},
        schema=schema)
    with atomic_file(path) as temporary:
        parquet.write_table(table, temporary)


def _text(value: Any) -> Any:
    """A name of a file that is no UTF-8, as a text that shows its bytes."""
    if not isinstance(value, str):
        return value
    return value.encode('utf-8',
                        'surrogateescape').decode('utf-8', 'backslashreplace')


def printable(text: str, stream: Optional[TextIO] = None) -> str:
    """A name as a terminal, or another stream, can show it on one line."""
    shown = ''.join(c if c.isprintable(
    ) else c.encode('unicode_escape', 'surrogatepass').decode() for c in text)
    encoding = getattr(stream or sys.stdout, 'encoding', None) or 'utf-8'
    return shown.encode(encoding, 'backslashreplace').decode(encoding)


def exit_status(run: Callable[[], Any], interrupted: str = '') -> int:
    """Run a program whose errors are lines on standard error.

    Args:
        run (Callable): The program.
        interrupted (str): What to say if it was stopped. Defaults to nothing.

    Returns:
        int: 0; 1 if something given does not fit; 130 if it was stopped.
    """
    try:
        run()
        return 0
    except KeyboardInterrupt:
        if interrupted:
            print(f'error: {interrupted}', file=sys.stderr)
        return INTERRUPTED
    except (OSError, ValueError, ImportError, MemoryError,
            RuntimeError) as error:
        print(
            f'error: {printable(one_line(error), sys.stderr)}',
            file=sys.stderr)
        return 1


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
