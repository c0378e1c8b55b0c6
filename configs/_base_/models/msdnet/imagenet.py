# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Four scales of 16, 32, 64 and 64 new channels; five exits.
_base_ = '../classifier.py'

model = dict(
    backbone=dict(type='MSDNetBackbone', num_exits=5, base=4, step=4),
    # The paper weighs all exits alike, and has no teacher.
    head=dict(num_classes=1000, loss_weights=dict(type='equal')))
