# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the runtimes have in common."""
from typing import Any

from ..io.describe import one_line

__all__ = ['failure', 'import_runtime']

# Of what a runtime says; some of it is a dump of the graph.
MAX_MESSAGE = 300


def import_runtime(module: str) -> Any:
    """Import a runtime, which is named as its package is."""
    try:
        return __import__(module)
    except ImportError as error:
        raise ImportError(
            f'the runtime {module} is not installed '
            f'({one_line(error)}): pip install {module}') from error


def failure(name: str, doing: str, runtime: str,
            error: BaseException) -> ValueError:
    """What to raise if a graph cannot be 'loaded' or 'run' by a runtime.

    Runtimes raise classes of their own, and messages of many lines.
    """
    text = one_line(error)
    if len(text) > MAX_MESSAGE:
        text = f'{text[:MAX_MESSAGE]} ...'
    return ValueError(f'{name} cannot be {doing} by {runtime}: {text}')
