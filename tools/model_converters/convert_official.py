# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Turn weights published by the authors into a checkpoint of a config."""
from mmdynperceiver.cli import common
from mmdynperceiver.cli.convert import main

__all__ = ['common', 'main']

if __name__ == '__main__':
    common.run_tool(main)
