# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the two runtimes have in common."""
from typing import Any

from ..io.describe import one_line

__all__ = ['failure', 'import_runtime']

# Of what a runtime says; some of it is a dump of the graph.
MAX_MESSAGE = 300


def import_runtime(module: str) -> Any:
    """Import a runtime.

    Args:
        module (str): Its name, which is that of its package, too.

    Raises:
        ImportError: If it cannot be imported.
    """
    try:
        return __import__(module)
    except ImportError as error:
        raise ImportError(
            f'the runtime {module} is not installed '
            f'({one_line(error)}): pip install {module}') from error


def failure(name: str, doing: str, runtime: str,
            error: BaseException) -> ValueError:
    """What to raise for an error of a runtime.

    Runtimes raise classes of their own, and messages of many lines.

    Args:
        name (str): File of the graph.
        doing (str): What failed: 'loaded' or 'run'.
        runtime (str): Name of the runtime.
        error (BaseException): What it raised.
    """
    text = one_line(error)
    if len(text) > MAX_MESSAGE:
        text = f'{text[:MAX_MESSAGE]} ...'
    return ValueError(f'{name} cannot be {doing} by {runtime}: {text}')
