# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'regnety-800mf.py'

# Cells are about as wide as high, and none fills the image.
model = dict(
    neck=dict(add_extra_convs=False, num_outs=3),
    bbox_head=dict(
        num_classes=3,
        anchor_generator=dict(ratios=[1.0], strides=[8, 16, 32])))
