# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dyn-Perceiver with the paper's classification branch."""
_base_ = 'base.py'

model = dict(backbone=dict(type='DynPerceiverBackbone', num_latents=128))
