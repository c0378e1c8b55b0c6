# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_convnext-tiny_8xb128_in1k.py'

# The feature branch alone, with one exit at its end.
model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvBackbone',
        arch={{_base_.model.backbone.arch}}))
