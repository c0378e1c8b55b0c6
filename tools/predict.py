# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Say what is in image files, whatever form the network has."""
from mmdynperceiver.cli import common
from mmdynperceiver.cli.predict import main, parse_args

__all__ = ['common', 'main', 'parse_args']

if __name__ == '__main__':
    common.run_tool(main)
