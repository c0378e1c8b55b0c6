# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run a script of a host with the stack patched before it is imported.

    python -m mmdynperceiver.compat SCRIPT ARGUMENTS...

Most scripts of the hosts read a config first, which imports this package.
Some import their models before that, and fail where the stack is broken.
"""
import os
import runpy
import sys


def main() -> None:
    """Run the script as if Python had been called with it."""
    if len(sys.argv) < 2 or not os.path.isfile(sys.argv[1]):
        sys.exit('usage: python -m mmdynperceiver.compat SCRIPT ARGUMENTS...')
    del sys.argv[0]
    # Scripts import what lies beside them.
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    main()
