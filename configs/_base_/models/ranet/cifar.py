# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Three sub-networks of 24, 12 and 6 new channels; six exits.
_base_ = '../classifier.py'

model = dict(
    backbone=dict(
        type='RANetBackbone',
        scales=(1, 2, 3),
        step=2,
        step_mode='linear',
        stem_channels=16,
        growth=6,
        growth_factors=(4, 2, 1),
        bottleneck_factors=(4, 2, 1),
        stem_stride=1,
        exit_width=128),
    # The paper weighs all exits alike, and has no teacher.
    head=dict(loss_weights=dict(type='equal')))
