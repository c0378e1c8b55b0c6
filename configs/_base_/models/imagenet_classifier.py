# Copyright (c) mmdynperceiver contributors. All rights reserved.
# What all families of configs/imagenet share: the exits and their losses.
custom_imports = dict(
    imports=['mmdynperceiver.classification'], allow_failed_imports=False)

model = dict(
    type='DynPerceiverClassifier',
    # Channels and dropout follow from the backbone, and the number of
    # classes of mixup and cutmix from the head.
    head=dict(
        type='DynPerceiverHead',
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)),
    # None: those of the checkpoint; without any, all images run to the last
    # exit. Three numbers, or a JSON file that holds them.
    thresholds=None,
    train_cfg=dict(augments=[
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0)
    ]))
