# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dyn-Perceiver with weights of samples, of the strength for CIFAR."""
_base_ = 'dyn-perceiver.py'

model = dict(head=dict(sample_weights=dict(strength=0.8)))
# 1e-4 for the network that predicts the weights, as published.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'head.sample_weights': dict(lr_mult=1 / 30)}))
