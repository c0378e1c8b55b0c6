# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The network as it is."""
_base_ = 'base.py'
