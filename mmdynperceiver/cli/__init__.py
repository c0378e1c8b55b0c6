# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the command-line tools share."""
