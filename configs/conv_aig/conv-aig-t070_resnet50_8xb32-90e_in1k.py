# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'conv-aig-t050_resnet50_8xb32-90e_in1k.py'

model = dict(backbone=dict(target_rate=0.7))
