# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The classic multi-exit network: also exits behind stages 1 and 2."""
_base_ = 'base.py'

model = dict(backbone=dict(exit_stages=(1, 2, 3)))
