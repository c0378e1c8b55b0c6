# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Measure how long networks take to each of their exits, side by side."""
import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.cli import common
from mmdynperceiver.cli.benchmark import main, parse_args

__all__ = ['main', 'parse_args']

if __name__ == '__main__':
    common.run_tool(main)
