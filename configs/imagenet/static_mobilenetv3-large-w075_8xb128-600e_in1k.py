# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_mobilenetv3-large-w075_8xb128-600e_in1k.py'

# The feature branch alone, with one exit at its end.
model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvBackbone',
        arch='mobilenetv3-large',
        width=0.75))
