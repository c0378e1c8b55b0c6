# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The main job on embedded data, from nothing to pictures."""
from mmdynperceiver.cli import common
from mmdynperceiver.cli.demo import main, parse_args

__all__ = ['common', 'main', 'parse_args']

if __name__ == '__main__':
    common.run_tool(main)
