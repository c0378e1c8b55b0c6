# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'ranet-1234-stem32_8xb32-90e_in1k.py'

model = dict(backbone=dict(stem_channels=64))
