# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_resnet22-w025_1xb128-10e_cifar10-folder.py'

# The feature branch alone, with one exit at its end.
model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvBackbone',
        arch=dict(block='basic', depths=(1, 1, 4, 4), stem_stride=2),
        width=0.25,
        drop_path_rate=0.))
