# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The same with another share of images which run a block."""
_base_ = 'conv-aig.py'

model = dict(backbone=dict(target_rate=0.8))
