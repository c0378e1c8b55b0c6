# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-400mf_8xb128_in1k.py'

# Both branches, one exit at the end.
model = dict(backbone=dict(exits='last'))
