# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-400mf_8xb128_in1k.py'

# The last exit does not teach the others.
model = dict(head=dict(loss_weights=dict(distill=(0., 0., 0.))))
