# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Measure how long networks take to each of their exits, side by side."""
from mmdynperceiver.cli import common
from mmdynperceiver.cli.benchmark import main, parse_args

__all__ = ['common', 'main', 'parse_args']

if __name__ == '__main__':
    common.run_tool(main)
