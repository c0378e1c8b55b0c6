# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-800mf_8xb128_in1k.py'

# Any stage-wise backbone of any registry; see docs/any-backbone.md.
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, type='mmpretrain.EfficientNet', arch='b0')),
    head=dict(dropout=0.2))
