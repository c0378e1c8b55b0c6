# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The classic multi-exit network."""
_base_ = 'static.py'

model = dict(backbone=dict(exit_stages=(1, 2, 3)))
