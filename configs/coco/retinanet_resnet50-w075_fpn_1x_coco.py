# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The static network to compare with: the feature branch alone.
_base_ = ['./retinanet_dyn-perceiver-resnet50-w075_fpn_1x_coco.py']

checkpoint = 'checkpoints/static_resnet50-w075_8xb128_in1k.pth'
model = dict(
    backbone=dict(
        _delete_=True,
        type='DynPerceiverDetBackbone',
        branches='feature',
        arch='resnet50',
        width=0.75,
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')))
