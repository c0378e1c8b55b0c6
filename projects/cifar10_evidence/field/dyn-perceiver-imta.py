# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dyn-Perceiver with gradient equilibrium."""
_base_ = 'dyn-perceiver.py'

model = dict(backbone=dict(gradient_equilibrium=True))
