# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = ('dyn-perceiver-tsm_in1k-pre-resnet50-w0625-n128_'
          '8xb8-1x1x8-50e_sthv1-rgb.py')

# Its image classifier needs num_latents=192 as well.
model = dict(backbone=dict(num_latents=192))
