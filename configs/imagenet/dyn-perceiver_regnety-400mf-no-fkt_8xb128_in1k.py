# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-400mf_8xb128_in1k.py'

# No logits are handed to later exits.
model = dict(head=dict(fkt=False))
