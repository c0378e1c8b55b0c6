# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The hosts' own scripts, from their wheels, in this process."""
import contextlib
import io
import runpy
import sys
from pathlib import Path


def run_host_tool(host, name, *args):
    """Run a script of a host, an imported package; what it printed.

    Its errors are raised as they are.
    """
    path = Path(host.__file__).parent / '.mim/tools' / name
    old, sys.argv = sys.argv, [str(path), *map(str, args)]
    # Scripts import what lies beside them.
    sys.path.insert(0, str(path.parent))
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            runpy.run_path(str(path), run_name='__main__')
    except SystemExit as stop:
        assert not stop.code, (name, stop.code)
    finally:
        sys.path.remove(str(path.parent))
        sys.argv = old
    return output.getvalue()
