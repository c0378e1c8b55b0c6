# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-400mf_8xb128_in1k.py'

# Number and width of the latents stay those of stage 1.
model = dict(backbone=dict(token_mixer=False))
