# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""``python -m mmdynperceiver COMMAND ...``."""
import sys

from .cli.commands import main

if __name__ == '__main__':
    sys.exit(main())
