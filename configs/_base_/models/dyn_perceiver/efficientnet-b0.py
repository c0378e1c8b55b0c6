# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../imagenet_classifier.py'

# Any stage-wise backbone of any registry; see docs/any-backbone.md.
model = dict(
    backbone=dict(
        type='DynPerceiverBackbone',
        arch=dict(type='mmpretrain.EfficientNet', arch='b0'),
        num_latents=128),
    head=dict(dropout=0.2))
