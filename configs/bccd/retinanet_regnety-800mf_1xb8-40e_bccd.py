# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The static network to compare with: the feature branch alone.
_base_ = ['./retinanet_dyn-perceiver-regnety-800mf_1xb8-40e_bccd.py']

checkpoint = 'checkpoints/static_regnety-800mf_8xb128_in1k.pth'
model = dict(
    backbone=dict(branches='feature', init_cfg=dict(checkpoint=checkpoint)))
