# Copyright (c) mmdynperceiver contributors. All rights reserved.
model = dict(
    type='FrameExitRecognizer',
    backbone=dict(
        type='FrameExitBackbone',
        arch='resnet50',
        drop_path_rate=0.,
        num_frames=10,
        # Fetched when a training starts; a file of torchvision's works, too.
        backbone_weights='IMAGENET1K_V1'),
    # Channels follow from the backbone.
    cls_head=dict(type='FrameExitHead', num_classes=400, dropout=0.5),
    # RGB, in pixels of 0 to 255
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCHW'),
    # None: the gates decide. Nine numbers, or a JSON file that holds them,
    # take their place.
    thresholds=None)
