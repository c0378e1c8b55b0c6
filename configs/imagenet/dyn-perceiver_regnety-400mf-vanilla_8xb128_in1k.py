# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-400mf_8xb128_in1k.py'

# The branches meet in the first x2z and in the last exit only.
model = dict(
    backbone=dict(x2z=False, z2x=False, dw_conv=False, last_z2x=False),
    head=dict(fkt=False, loss_weights=dict(distill=(0., 0., 0.))))
