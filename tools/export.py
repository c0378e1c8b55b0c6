# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Export a checkpoint as one ONNX graph per segment."""
from mmdynperceiver.cli import common
from mmdynperceiver.cli.export import main, parse_args

__all__ = ['common', 'main', 'parse_args']

if __name__ == '__main__':
    common.run_tool(main)
