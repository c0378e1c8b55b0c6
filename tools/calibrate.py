# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Solve the thresholds of a checkpoint for a budget, on held-out images."""
from mmdynperceiver.cli import common
from mmdynperceiver.cli.calibrate import main, parse_args

__all__ = ['common', 'main', 'parse_args']

if __name__ == '__main__':
    common.run_tool(main, 'stopped; the same command goes on')
