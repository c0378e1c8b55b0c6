# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'ranet-123-linear_1xb64-300e_cifar10.py'

model = dict(
    backbone=dict(
        scales=(1, 2, 2, 3),
        growth_factors=(4, 2, 2, 1),
        bottleneck_factors=(4, 2, 2, 1)))
