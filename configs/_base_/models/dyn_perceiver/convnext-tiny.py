# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../imagenet_classifier.py'

# Any stage-wise backbone of any registry; see docs/any-backbone.md.
model = dict(
    backbone=dict(
        type='DynPerceiverBackbone',
        arch=dict(
            type='mmpretrain.ConvNeXt',
            arch='tiny',
            drop_path_rate=0.1,
            # The feature map is what the branch needs, normalised.
            gap_before_final_norm=False),
        num_latents=128))
