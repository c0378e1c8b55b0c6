# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-400mf_8xb128_in1k.py'

# Features read the latents after stage 4 only.
model = dict(backbone=dict(z2x=False))
