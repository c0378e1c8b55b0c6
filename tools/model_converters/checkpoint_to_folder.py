# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Save a checkpoint as a folder without code, to load anywhere and share."""
from mmdynperceiver.cli import common
from mmdynperceiver.cli.share import main, parse_args

__all__ = ['common', 'main', 'parse_args']

if __name__ == '__main__':
    common.run_tool(main)
