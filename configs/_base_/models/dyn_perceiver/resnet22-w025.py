# Copyright (c) mmdynperceiver contributors. All rights reserved.
# A small network for a CPU: most of its depth, and of its MACs, lies behind
# the first exit.
_base_ = '../classifier.py'

model = dict(
    backbone=dict(
        type='DynPerceiverBackbone',
        arch=dict(block='basic', depths=(1, 1, 4, 4)),
        width=0.25,
        num_latents=8,
        # Self-attention in stage 4 only: two blocks.
        depth_factor=(0, 0, 0, 2 / 3),
        drop_path_rate=0.))
