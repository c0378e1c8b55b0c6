# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The same, but the latents read features from the third stage on."""
_base_ = 'latency-first.py'

model = dict(backbone=dict(first_x2z=2))
