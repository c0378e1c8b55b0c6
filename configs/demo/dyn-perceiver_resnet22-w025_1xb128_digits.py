# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The main job on embedded data: 64x64 digits, minutes on two CPU cores.

The images come from ``python -m projects.digits`` (``tools/demo.py`` runs it).
Each of the 1,200 source digits of the training split is drawn many times in
different scenes.
"""
_base_ = [
    '../_base_/models/dyn_perceiver/resnet22-w025.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits_b128_adamw_5e.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=1, max_keep_ckpts=1, save_best=None))
randomness = dict(seed=0)
