# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Check your GPU: whether everything computes right on it, and how fast."""
from mmdynperceiver.cli.check_gpu import main, parse_args
from mmdynperceiver.cli.commands import GO_ON
from mmdynperceiver.cli.run import run_tool

__all__ = ['main', 'parse_args']

if __name__ == '__main__':
    run_tool(main, GO_ON)
