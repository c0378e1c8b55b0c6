# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Say what is in files, one after the other: what the demo tools share."""
import argparse
import os.path as osp
import sys
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple, Type

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..datasets.image_files import Broken
from ..deploy.printing import Count, say_skipped, skipped_files
from ..errors import InputError
from ..io.describe import one_line
from ..io.result_file import (ENDINGS, INTERRUPTED, ResultFile,
                              add_result_options, import_pyarrow, printable,
                              stoppable)
from . import options

__all__ = [
    'BrokenInputError', 'add_file_options', 'broken_input', 'check_options',
    'names_of_classes', 'predict_files', 'prediction_parser',
    'print_predictions'
]

# What a table holds of a result, behind the file.
COLUMNS = ('exit_index', 'confidence', 'macs', 'all_macs', 'label', 'name',
           'score', 'error')


class BrokenInputError(InputError):
    """A file cannot be classified; the next one perhaps can."""


@contextmanager
def broken_input(what: str, *kinds: Type[Exception]) -> Iterator[None]:
    """Take errors in here as faults of one file.

    Args:
        what (str): Such as "cannot read the image 'a.jpg'".
        *kinds (type): Kinds of errors. Defaults to all, since decoders raise
            whatever they like.
    """
    try:
        yield
    except kinds or Exception as error:
        raise BrokenInputError(f'{what}: {one_line(error)}') from error


def prediction_parser(kind: str) -> argparse.ArgumentParser:
    """The command line of a tool that classifies files.

    Args:
        kind (str): 'image' or 'video'.
    """
    parser = argparse.ArgumentParser(
        description=f'Classify {kind} files: the best classes, the exit at '
        f'which each {kind} left, how sure, and what it cost.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_file_options(parser, kind)
    return parser


def add_file_options(parser: argparse.ArgumentParser, kind: str) -> None:
    """Add the files, and what becomes of them, to a command line."""
    parser.add_argument(
        'files',
        nargs='+',
        metavar=f'{kind}s',
        help=f'{kind} files, or folders with {kind}s')
    options.add_policy_options(parser)
    parser.add_argument(
        '--classes',
        help='file with a class name in each line (default: the names that '
        'the checkpoint carries, else numbers)')
    parser.add_argument(
        '--topk', type=int, default=5, help='classes shown (default: 5)')
    options.add_device_option(parser)
    add_result_options(parser)


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that do not fit, before the model is built."""
    if args.topk < 1:
        raise InputError(f'--topk must be at least 1, got {args.topk}')
    options.check_writable_file(args.out, ENDINGS)
    if args.out is not None and args.out.endswith('.parquet'):
        with options.input_errors(ImportError):
            import_pyarrow()


def names_of_classes(args: argparse.Namespace, count: int) -> List[str]:
    """Names of all classes; numbers where they are not known.

    Args:
        args (Namespace): With ``checkpoint`` and ``classes``, a file or None.
        count (int): How many classes the model has.

    Raises:
        InputError: If there are more or fewer names, or another order.
    """
    from ..datasets.class_names import choose_class_names
    from ..io.checkpoint_file import read_checkpoint
    content = read_checkpoint(osp.expanduser(args.checkpoint))
    return choose_class_names(args.classes, content, count)


def predict_files(kind: str,
                  files: Tuple[List[str], List[Broken]],
                  args: argparse.Namespace,
                  predict: Callable[[str], Any],
                  names: Sequence[str],
                  on_result: Callable[[Dict[str, Any]], Any] = bool) -> None:
    """Classify one file after the other, print a table and keep the results.

    Args:
        kind (str): 'image' or 'video'.
        files (tuple): The files, and folders without any, as
            :func:`mmdynperceiver.datasets.image_files.find_files` gives them.
        args (Namespace): The options of :func:`prediction_parser`.
        predict (Callable): Takes a path and gives the host's data sample, or
            raises :class:`BrokenInputError`.
        names (Sequence[str]): Names of all classes.
        on_result (Callable): Called with each result as it comes. Defaults
            to nothing.

    Raises:
        InputError: If no file can be classified, or one cannot and
            ``on_broken`` is 'raise'.
        SystemExit: With the status 130, if it was stopped.
    """
    paths, broken = files
    run = _Run(kind, len(paths), args, names)
    try:
        with stoppable(), run.out:
            for entry in broken:
                run.skip(entry)
            for path in paths:
                try:
                    sample = predict(path)
                except BrokenInputError as error:
                    if args.on_broken == 'raise':
                        raise
                    run.skip(Broken(path, one_line(error)))
                else:
                    run.add(path, sample)
                    on_result(run.results[-1])
    except KeyboardInterrupt:
        run.count.clear()
        print(
            f'error: stopped after {len(run.results)} of {len(paths)} '
            f'{kind}s',
            file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        run.summary()
    if not run.results:
        raise InputError(f'none of the {kind}s could be classified; the '
                         f'first: {run.skipped[0].reason}')


class _Run:
    """What was classified and what was skipped, printed and written."""

    def __init__(self, kind: str, total: int, args: argparse.Namespace,
                 names: Sequence[str]) -> None:
        self.kind, self.args, self.names = kind, args, names
        self.results: List[Dict[str, Any]] = []
        self.skipped: List[Broken] = []
        self.count = Count(total, f'{kind}s')
        self.out = ResultFile(args.out, (kind, *COLUMNS),
                              lambda rows, complete: rows)

    def skip(self, entry: Broken) -> None:
        """Say that a file is skipped."""
        self.skipped.append(entry)
        self.count.clear()
        say_skipped(entry)
        self.out.add({self.kind: entry.path, 'error': entry.reason})

    def add(self, path: str, sample: Any) -> None:
        """Keep a data sample with its best classes, as JSON can hold it."""
        scores = sample.pred_score.tolist()
        order = sorted(range(len(scores)), key=lambda k: -scores[k])
        classes = [
            dict(name=self.names[k], label=k, score=scores[k])
            for k in order[:self.args.topk]
        ]
        self.results.append({
            self.kind: path,
            'exit_index': sample.exit_index,
            'confidence': sample.exit_confidence,
            'macs': sample.macs,
            'all_macs': sample.exit_macs[-1],
            'classes': classes
        })
        self.out.add(classes[0] | self.results[-1])
        self.count.show(len(self.results) + len(self.skipped))

    def summary(self) -> None:
        """Print the results, and name what was skipped."""
        self.count.clear()
        if self.results:
            print_predictions(self.kind, self.results)
        if self.skipped:
            print(skipped_files(self.skipped))
        if self.out.written:
            print(f'wrote {self.args.out}')


def print_predictions(kind: str, results: Sequence[Dict[str, Any]]) -> None:
    """Print the results."""
    table = Table(kind, 'exit', 'confidence', 'MACs (M)', 'of all', 'classes')
    for result in results:
        # Names are not markup: they may have [brackets] and :colons:.
        table.add_row(
            Text(printable(osp.basename(result[kind]))),
            str(result['exit_index']), f'{result["confidence"]:.3f}',
            f'{result["macs"] / 1e6:,.1f}',
            f'{result["macs"] / result["all_macs"]:.0%}',
            Text(', '.join(f'{row["name"]} {row["score"]:.1%}'
                           for row in result['classes'])))
    # A file or a pipe has no edge at which names would be broken.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)
