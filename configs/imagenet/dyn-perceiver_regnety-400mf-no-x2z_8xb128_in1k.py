# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-400mf_8xb128_in1k.py'

# Latents read the features in stage 1 only.
model = dict(backbone=dict(x2z=False))
