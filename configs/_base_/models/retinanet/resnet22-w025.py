# Copyright (c) mmdynperceiver contributors. All rights reserved.
# A detector for a CPU: the trunk of the classification demo, a narrow neck
# and a shallow head. Anchors are squares of 16, 20 and 25 pixels and of twice
# and four times that.
_base_ = '../retinanet.py'

model = dict(
    backbone=dict(
        arch=dict(block='basic', depths=(1, 1, 4, 4)),
        width=0.25,
        drop_path_rate=0.,
        norm_eval=False),
    neck=dict(
        in_channels=[16, 32, 64, 128],
        out_channels=48,
        add_extra_convs=False,
        num_outs=3),
    bbox_head=dict(
        in_channels=48,
        stacked_convs=1,
        feat_channels=48,
        anchor_generator=dict(
            octave_base_scale=2, ratios=[1.0], strides=[8, 16, 32])))
