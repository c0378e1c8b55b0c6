# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-800mf_8xb128_in1k.py'

model = dict(backbone=dict(arch='regnety-400mf'))
