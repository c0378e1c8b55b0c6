# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Of images of 32 pixels, 16 and then 32, a network for each.
_base_ = '../classifier.py'

model = dict(
    backbone=dict(
        type='ResolutionCascadeBackbone',
        arch=dict(block='basic', depths=(1, 1, 4, 4), stem_stride=2),
        width=0.25,
        drop_path_rate=0.,
        scales=(1 / 2, 1)),
    head=dict(loss_weights=dict(type='equal')))
