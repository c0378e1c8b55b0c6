# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Four sub-networks of 64, 32, 32 and 16 new channels; eight exits.
_base_ = '../classifier.py'

model = dict(
    backbone=dict(type='RANetBackbone', stem_channels=32),
    # The paper weighs all exits alike, and has no teacher.
    head=dict(num_classes=1000, loss_weights=dict(type='equal')))
