# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = ('dyn-perceiver-tsm_in1k-pre-resnet50-w0625-n128_'
          '8xb8-1x1x8-50e_sthv1-rgb.py')

model = dict(
    backbone=dict(
        width=0.375,
        init_cfg=dict(
            checkpoint='work_dirs/dyn-perceiver_resnet50-w0375_8xb128_in1k/'
            'epoch_300.pth')))
