# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/dyn_perceiver/tsm_resnet50.py',
    '../_base_/datasets/sthv2_1x1x8.py',
    '../_base_/schedules/tsm_sgd_50e.py',
    '../_base_/video_runtime.py',
]
