# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The static network, wider."""
_base_ = 'static.py'

model = dict(backbone=dict(width=0.3125))
