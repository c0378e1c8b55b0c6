# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Solve the thresholds of a detector that stops early, on held-out images."""
from mmdynperceiver.cli import common
from mmdynperceiver.cli.calibrate_detector import main

__all__ = ['common', 'main']

if __name__ == '__main__':
    common.run_tool(main, 'stopped; the same command goes on')
