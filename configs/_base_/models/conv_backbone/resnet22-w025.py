# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The feature branch alone, with one exit at its end.
_base_ = '../classifier.py'

model = dict(
    backbone=dict(
        type='ConvBackbone',
        arch=dict(block='basic', depths=(1, 1, 4, 4), stem_stride=2),
        width=0.25,
        drop_path_rate=0.))
