# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Check your GPU: whether everything computes right on it, and how fast."""
import sys

from mmdynperceiver.cli.check_gpu import main, parse_args

__all__ = ['main', 'parse_args']

if __name__ == '__main__':
    sys.exit(main())
