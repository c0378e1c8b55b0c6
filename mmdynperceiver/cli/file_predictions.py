# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Say what is in files, one after the other: what the demo tools share."""
import argparse
import os.path as osp
import sys
from contextlib import contextmanager
from typing import (Any, Callable, Dict, Iterator, List, Optional, Sequence,
                    Tuple, Type)

from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

from ..datasets.class_names import choose_class_names
from ..datasets.image_files import Broken
from ..deploy.printing import Count, say_skipped, skipped_files
from ..errors import InputError, input_errors
from ..io.checkpoint_file import read_checkpoint
from ..io.describe import one_line
from ..io.result_file import (ENDINGS, INTERRUPTED, ResultFile,
                              add_result_options, printable, stoppable)
from . import common

__all__ = [
    'BrokenInputError', 'broken_input', 'check_options', 'describe',
    'names_of_classes', 'predict_files', 'prediction_parser',
    'print_predictions', 'set_policy'
]


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
    """The command line of a tool that says what is in files.

    Args:
        kind (str): 'image' or 'video'.
    """
    parser = argparse.ArgumentParser(
        description=f'Classify {kind} files: the best classes, the exit at '
        f'which each {kind} left, how sure, and what it cost.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        'files',
        nargs='+',
        metavar=f'{kind}s',
        help=f'{kind} files, or folders with {kind}s')
    policy = common.add_policy_options(parser)
    policy.add_argument(
        '--exit', type=int, help='the one exit at which all leave, from 0')
    parser.add_argument(
        '--classes',
        help='file with a class name in each line (default: the names that '
        'the checkpoint carries, else numbers)')
    parser.add_argument(
        '--topk', type=int, default=5, help='classes shown (default: 5)')
    parser.add_argument('--device', help='(default: a GPU if there is one)')
    add_result_options(parser)
    return parser


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that do not fit, before the model is built.

    Raises:
        InputError: If one does not.
    """
    if args.topk < 1:
        raise InputError(f'--topk must be at least 1, got {args.topk}')
    if args.out:
        common.check_writable_file(args.out, ENDINGS)


def set_policy(model: nn.Module, args: argparse.Namespace) -> None:
    """Let the options decide where samples leave, if they say anything.

    Args:
        model (nn.Module): An early-exit model.
        args (Namespace): With ``thresholds``, ``thresholds_file``, ``exit``.

    Raises:
        InputError: If they do not fit the model.
    """
    thresholds = args.thresholds or args.thresholds_file
    if thresholds is not None or args.exit is not None:
        with input_errors():
            model.policy = model.make_policy(thresholds, args.exit)


def names_of_classes(args: argparse.Namespace, count: int) -> List[str]:
    """Names of all classes; numbers where they are not known.

    Args:
        args (Namespace): With ``checkpoint`` and ``classes``, a file or None.
        count (int): How many classes the model has.

    Raises:
        InputError: If there are more or fewer names, or another order.
    """
    content = read_checkpoint(osp.expanduser(args.checkpoint))
    return choose_class_names(args.classes, content, count)


def describe(kind: str, path: str, sample: Any, names: Sequence[str],
             topk: int) -> Dict[str, Any]:
    """What is said of one file.

    Args:
        kind (str): 'image' or 'video', the key of the path.
        path (str): The file.
        sample (Any): The host's data sample of an early-exit model.
        names (Sequence[str]): Names of all classes.
        topk (int): How many classes to name.

    Returns:
        dict: What JSON can hold: where the file left, how sure, multiply-adds
        until there and to the last exit, and the best classes.
    """
    scores, order = sample.pred_score.sort(descending=True)
    return {
        kind:
        path,
        'exit_index':
        sample.exit_index,
        'confidence':
        sample.exit_confidence,
        'macs':
        sample.macs,
        'all_macs':
        sample.exit_macs[-1],
        'classes': [
            dict(name=names[int(k)], label=int(k), score=float(score))
            for score, k in zip(scores[:topk], order[:topk])
        ]
    }


def print_predictions(kind: str, results: Sequence[Dict[str, Any]]) -> None:
    """Print a table.

    Args:
        kind (str): 'image' or 'video'.
        results (Sequence[dict]): As ``describe`` gives them.
    """
    table = Table()
    for heading in (kind, 'exit', 'confidence', 'MACs (M)', 'of all',
                    'classes'):
        table.add_column(heading, justify='left')
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


def predict_files(kind: str, files: Tuple[List[str], List[Broken]],
                  args: argparse.Namespace, predict: Callable[[str], Any],
                  names: Sequence[str]) -> None:
    """Classify one file after the other, print a table and keep the results.

    Args:
        kind (str): 'image' or 'video'.
        files (tuple): What
        :func:`mmdynperceiver.datasets.image_files.find_files`
            gives: the files, and folders without any.
        args (Namespace): The options of :func:`prediction_parser`.
        predict (Callable): Takes a path and gives the host's data sample, or
            raises :class:`BrokenInputError`.
        names (Sequence[str]): Names of all classes.

    Raises:
        InputError: If no file can be classified, or one cannot and
            ``on_broken`` is 'raise'.
        SystemExit: With the status 130, if it was stopped.
    """
    paths, broken = files
    results: List[Dict[str, Any]] = []
    skipped = list(broken)
    count = Count(len(paths), f'{kind}s')
    out = ResultFile(args.out, (kind, 'exit_index', 'confidence', 'macs',
                                'all_macs', 'label', 'name', 'score', 'error'),
                     lambda rows, complete: rows)
    try:
        with stoppable(), out:
            for entry in skipped:
                _skip(kind, entry, out)
            for path in paths:
                sample = _predict(path, predict, args, skipped)
                if sample is None:
                    count.clear()
                    _skip(kind, skipped[-1], out)
                    continue
                results.append(describe(kind, path, sample, names, args.topk))
                out.add({**results[-1]['classes'][0], **results[-1]})
                count.show(len(results) + len(skipped))
    except KeyboardInterrupt:
        count.clear()
        print(
            f'error: stopped after {len(results)} of {len(paths)} {kind}s',
            file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        count.clear()
        if results:
            print_predictions(kind, results)
        if skipped:
            print(skipped_files(skipped))
        if out.written:
            print(f'wrote {args.out}')
    if not results:
        raise InputError(f'none of the {kind}s could be classified; the '
                         f'first: {skipped[0].reason}')


def _predict(path: str, predict: Callable[[str], Any],
             args: argparse.Namespace, skipped: List[Broken]) -> Optional[Any]:
    """Classify one file; None, if it is broken and skipped."""
    try:
        return predict(path)
    except BrokenInputError as error:
        if args.on_broken == 'raise':
            raise
        skipped.append(Broken(path, one_line(error)))
        return None


def _skip(kind: str, entry: Broken, out: ResultFile) -> None:
    """Say that a file is skipped."""
    say_skipped(entry)
    out.add({kind: entry.path, 'error': entry.reason})
