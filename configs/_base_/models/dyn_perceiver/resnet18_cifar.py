# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../classifier.py'

model = dict(
    backbone=dict(
        type='DynPerceiverBackbone',
        # No stride before stage 2: the images have 32x32 pixels.
        arch=dict(block='basic', depths=(2, 2, 2, 2), stem_stride=1),
        num_latents=64,
        drop_path_rate=0.1))
