# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dyn-Perceiver with the classification branch of few operations."""
_base_ = 'base.py'

model = dict(
    backbone=dict(
        type='DynPerceiverBackbone', branch='latency-first', first_x2z=2))
