# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The static network to compare with: the feature branch alone.
_base_ = ['./retinanet_dyn-perceiver-resnet22-w025_1xb8-20e_bccd.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='DynPerceiverDetBackbone',
        branches='feature',
        arch=dict(block='basic', depths=(1, 1, 4, 4)),
        width=0.25,
        drop_path_rate=0.))
