# Copyright (c) mmdynperceiver contributors. All rights reserved.
custom_imports = dict(
    imports=['mmdynperceiver.classification'], allow_failed_imports=False)

model = dict(
    type='DynPerceiverClassifier',
    backbone=dict(
        type='DynPerceiverBackbone',
        # No stride before stage 2: the images have 32x32 pixels.
        arch=dict(block='basic', depths=(2, 2, 2, 2), stem_stride=1),
        num_latents=64,
        drop_path_rate=0.1),
    head=dict(type='DynPerceiverHead', num_classes=10))
