# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The static network, narrower."""
_base_ = 'static.py'

model = dict(backbone=dict(width=0.1875))
