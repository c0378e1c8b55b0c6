# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Evaluate a checkpoint: each exit, and leaving early, in one pass."""
from mmdynperceiver.cli import common
from mmdynperceiver.cli.test import main, parse_args

__all__ = ['common', 'main', 'parse_args']

if __name__ == '__main__':
    common.run_tool(main)
