# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'msdnet-step4_8xb32-90e_in1k.py'

model = dict(backbone=dict(base=6, step=6))
