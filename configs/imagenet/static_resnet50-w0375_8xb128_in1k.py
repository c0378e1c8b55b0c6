# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_resnet50-w0375_8xb128_in1k.py'

# The feature branch alone, with one exit at its end.
model = dict(
    backbone=dict(
        _delete_=True, type='ConvBackbone', arch='resnet50', width=0.375))
