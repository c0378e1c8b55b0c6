# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Files and checkpoints: read with care, written whole or not at all."""
