# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_resnet18_1xb128-200e_cifar100.py'

# The feature branch alone, with one exit at its end.
model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvBackbone',
        arch=dict(block='basic', depths=(2, 2, 2, 2), stem_stride=1),
        drop_path_rate=0.1))
