# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-400mf_8xb128_in1k.py'

# Exit 3 sees the features before they read the latents.
model = dict(backbone=dict(last_z2x=False))
