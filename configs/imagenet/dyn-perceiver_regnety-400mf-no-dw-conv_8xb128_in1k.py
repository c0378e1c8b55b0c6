# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-400mf_8xb128_in1k.py'

# Latents read the features without the 7x7 depth-wise convolution.
model = dict(backbone=dict(dw_conv=False))
