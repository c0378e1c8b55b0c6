# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The static network to compare with: the feature branch alone.
_base_ = ['./retinanet_dyn-perceiver-regnety-800mf_fpn_1x_coco.py']

checkpoint = 'checkpoints/static_regnety-800mf_8xb128_in1k.pth'
model = dict(
    backbone=dict(
        _delete_=True,
        type='DynPerceiverDetBackbone',
        branches='feature',
        arch='regnety-800mf',
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')))
