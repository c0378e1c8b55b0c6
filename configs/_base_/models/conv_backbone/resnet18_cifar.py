# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The feature branch alone, with one exit at its end.
_base_ = '../classifier.py'

model = dict(
    backbone=dict(
        type='ConvBackbone',
        # No stride before stage 2: the images have 32x32 pixels.
        arch=dict(block='basic', depths=(2, 2, 2, 2), stem_stride=1),
        drop_path_rate=0.1))
