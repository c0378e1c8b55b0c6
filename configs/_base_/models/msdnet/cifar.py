# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Three scales of 6, 12 and 24 new channels; one exit every second layer.
_base_ = '../classifier.py'

model = dict(
    backbone=dict(
        type='MSDNetBackbone',
        num_exits=7,
        base=4,
        step=2,
        stem_channels=16,
        growth=6,
        growth_factors=(1, 2, 4),
        bottleneck_factors=(1, 2, 4),
        stem_stride=1,
        exit_width=128),
    # The paper weighs all exits alike, and has no teacher.
    head=dict(loss_weights=dict(type='equal')))
