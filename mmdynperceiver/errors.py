# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Errors that the user, not the program, has to fix."""
import errno
import re
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Optional, Sequence

from .compat.broken_host import HostImportError

__all__ = ['InputError', 'disk_error', 'first_few', 'input_errors', 'one_line']

# No space, no quota, file too large.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InputError(ValueError):
    """Something given does not fit; the message says what and what to do.

    The tools print it as one line. It keeps its type on the way from a data
    loader's worker.
    """


@contextmanager
def input_errors(*kinds: type, where: str = '') -> Iterator[None]:
    """Take errors in here as errors of use.

    Args:
        *kinds (type): Kinds of errors. Defaults to those that a config, an
            option or a missing file can bring about.
        where (str): Stands before the message. Defaults to ''.
    """
    kinds = kinds or (OSError, ValueError, TypeError, KeyError, RuntimeError,
                      AssertionError, AttributeError, ImportError, SyntaxError)
    try:
        yield
    except InputError:
        raise
    except kinds as error:
        raise InputError(where + one_line(error)) from error


def first_few(items: Sequence[Any],
              count: int = 5,
              show: Callable[[Any], str] = repr) -> str:
    """The first items, such as names, and how many more there are.

    Args:
        items (Sequence): Any number of them.
        count (int): Most that are shown. Defaults to 5.
        show (Callable): Makes a text of one. Defaults to ``repr``.
    """
    text = ', '.join(map(show, items[:count])) or 'none'
    more = len(items) - count
    return f'{text} and {more} more' if more > 0 else text


def one_line(error: BaseException) -> str:
    """The message of an error in one line.

    Args:
        error (BaseException): The error; what caused it may say more.
    """
    if not isinstance(error, InputError):
        error = disk_error(error) or error
    # mmengine hides why a custom import failed.
    cause: Optional[BaseException] = error
    while cause is not None and not isinstance(cause, HostImportError):
        cause = cause.__cause__ or cause.__context__
    error = cause or error
    # str() of a KeyError is its message in quotes.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args \
        else str(error)
    lines: List[str] = [line.strip() for line in text.split('\n')]
    lines = [line for line in lines if line] or [type(error).__name__]
    if len(lines) > 1 and 'Original Traceback' in text:
        # From a worker of a data loader: the last line is the error itself.
        return re.sub(r'^[\w.]+: ', '', lines[-1])
    return ' '.join(lines)


def disk_error(error: BaseException) -> Optional[OSError]:
    """The full disk that an error comes from, whoever wrote to it.

    Args:
        error (BaseException): The error.

    Returns:
        OSError, optional: None if it comes from something else.
    """
    cause: Optional[BaseException] = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
