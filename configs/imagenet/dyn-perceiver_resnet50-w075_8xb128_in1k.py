# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_resnet50-w0375_8xb128_in1k.py'

model = dict(backbone=dict(width=0.75))
