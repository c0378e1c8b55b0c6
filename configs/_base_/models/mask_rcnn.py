# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Mask R-CNN (arXiv 1703.06870) with MMDetection's settings.
_base_ = 'faster_rcnn.py'

model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        mask_roi_extractor=dict(
            _base_.roi_extractor,
            roi_layer=dict(_base_.roi_extractor.roi_layer, output_size=14)),
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=80,
            loss_mask=dict(
                type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))))
