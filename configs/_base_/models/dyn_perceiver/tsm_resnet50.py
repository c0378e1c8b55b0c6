# Copyright (c) mmdynperceiver contributors. All rights reserved.
model = dict(
    type='DynPerceiverRecognizer',
    backbone=dict(
        type='DynPerceiverTSM',
        arch='resnet50',
        width=0.625,
        num_latents=128,
        num_segments=8,
        shift_div=8,
        # All batch norms of the feature branch but the first are frozen.
        partial_bn=True,
        # Weights of an image classifier: trained by this config of
        # configs/imagenet, or published ones that tools/model_converters has
        # converted.
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/dyn-perceiver_resnet50-w0625_8xb128_in1k/'
            'epoch_300.pth',
            prefix='backbone.')),
    # Channels follow from the backbone.
    cls_head=dict(type='DynPerceiverTSMHead', num_classes=174, dropout=0.5),
    # RGB, in pixels of 0 to 255
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCHW'),
    # None: those of the checkpoint; without any, all videos run to the last
    # exit. Three numbers, or a JSON file that holds them.
    thresholds=None)
