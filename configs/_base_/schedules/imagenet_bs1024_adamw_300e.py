# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'adamw_cosine.py'

optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999)))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=20),
    dict(_base_.param_scheduler[1], begin=20),
]
train_cfg = dict(max_epochs=300)

# 8 GPUs x 128 images; `--auto-scale-lr` scales to the batch at hand.
auto_scale_lr = dict(base_batch_size=1024)
