# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dyn-Perceiver whose exits add up, with gradients rescaled."""
_base_ = 'dyn-perceiver-imta.py'

model = dict(head=dict(boosting=0.5))
