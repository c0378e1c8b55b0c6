# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Train a model; the config's default scope decides the host."""
from mmdynperceiver.cli import common
from mmdynperceiver.cli.train import main, parse_args

__all__ = ['common', 'main', 'parse_args']

if __name__ == '__main__':
    common.run_tool(main, 'stopped; --resume goes on from the last checkpoint')
