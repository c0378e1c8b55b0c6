# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../imagenet_classifier.py'

# The feature branch alone, with one exit at its end.
model = dict(
    backbone=dict(
        type='ConvBackbone',
        arch=dict(
            type='mmpretrain.ConvNeXt',
            arch='tiny',
            drop_path_rate=0.1,
            # The feature map is what the branch needs, normalised.
            gap_before_final_norm=False)))
