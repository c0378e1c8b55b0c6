# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../imagenet_classifier.py'

model = dict(
    backbone=dict(
        type='DynPerceiverBackbone', arch='regnety-800mf', num_latents=128))
