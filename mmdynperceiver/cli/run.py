# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run a program whose errors of use are one line; imports no torch."""
import os
import sys
from typing import Any, Callable, Optional

from ..errors import InputError, disk_error, one_line

__all__ = ['TRACEBACK_VARIABLE', 'run_tool']

# Set to show the whole traceback of an error.
TRACEBACK_VARIABLE = 'MMDYNPERCEIVER_TRACEBACK'


def run_tool(main: Callable[[], Optional[int]],
             stopped: str = 'stopped') -> None:
    """Run a tool; errors of use are one line and the exit status 1.

    Args:
        main (Callable): The tool; what it returns is the exit status, of
            which None is 0.
        stopped (str): What to say after Ctrl-C, which ends with the status
            130. Defaults to 'stopped'.
    """
    try:
        status = main()
    except KeyboardInterrupt:
        print(f'\n{stopped}', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE) or not _is_of_use(error):
            raise
        sys.exit(f'error: {one_line(error)}')
    # Not after an error: the other processes may be waiting in a collective.
    torch: Any = sys.modules.get('torch')
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if status:
        sys.exit(status)


def _is_of_use(error: Exception) -> bool:
    """Tell errors of use from faults of the program.

    What this package raises itself, where it has looked at something given,
    is meant for the user.
    """
    if isinstance(error, InputError) or disk_error(error) is not None:
        return True
    if not isinstance(error, (ValueError, TypeError, OSError)):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_globals.get('__name__', '') if trace else ''
    return name.partition('.')[0] == __name__.partition('.')[0]
