# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'static_resnet50-w0375_8xb128_in1k.py'

# The classic multi-exit network: also an exit behind stage 3 (2 from 0).
model = dict(backbone=dict(exit_stages=(2, 3)))
