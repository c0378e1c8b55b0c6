# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The feature branch alone, with one exit at its end.
custom_imports = dict(
    imports=['mmdynperceiver.classification'], allow_failed_imports=False)

model = dict(
    type='DynPerceiverClassifier',
    backbone=dict(
        type='ConvBackbone',
        # No stride before stage 2: the images have 32x32 pixels.
        arch=dict(block='basic', depths=(2, 2, 2, 2), stem_stride=1),
        drop_path_rate=0.1),
    head=dict(type='DynPerceiverHead', num_classes=10))
