# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The feature branch alone, with one exit at its end.
custom_imports = dict(
    imports=['mmdynperceiver.classification'], allow_failed_imports=False)

model = dict(
    type='DynPerceiverClassifier',
    backbone=dict(
        type='ConvBackbone',
        arch=dict(block='basic', depths=(1, 1, 4, 4), stem_stride=2),
        width=0.25,
        drop_path_rate=0.),
    head=dict(type='DynPerceiverHead', num_classes=10))
