# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-400mf_8xb128_in1k.py'

# Both branches, but the early exit reads the features of stage 3 (2 from 0).
model = dict(backbone=dict(exits='feature'))
