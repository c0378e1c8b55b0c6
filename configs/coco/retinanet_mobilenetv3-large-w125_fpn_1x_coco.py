# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The static network to compare with: the feature branch alone.
_base_ = ['./retinanet_dyn-perceiver-mobilenetv3-large-w125_fpn_1x_coco.py']

checkpoint = 'checkpoints/static_mobilenetv3-large-w125_8xb128-600e_in1k.pth'
model = dict(
    backbone=dict(
        _delete_=True,
        type='DynPerceiverDetBackbone',
        branches='feature',
        arch='mobilenetv3-large',
        width=1.25,
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')))
