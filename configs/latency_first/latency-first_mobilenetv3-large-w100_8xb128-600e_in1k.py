# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'latency-first_mobilenetv3-large-w075_8xb128-600e_in1k.py'

model = dict(backbone=dict(width=1.0))
