# Copyright (c) mmdynperceiver contributors. All rights reserved.
max_epochs = 300
warmup_epochs = 20

optim_wrapper = dict(
    optimizer=dict(
        type='AdamW', lr=1e-3, weight_decay=0.05, betas=(0.9, 0.999)),
    # Biases and norms are 1-D; latents and position biases are not, so these
    # are decayed.
    paramwise_cfg=dict(flat_decay_mult=0.0))

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        end=warmup_epochs,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        # To the last epoch, however many there are.
        begin=warmup_epochs,
        convert_to_iter_based=True),
]

train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# 8 GPUs x 128 images; `--auto-scale-lr` scales to the batch at hand.
auto_scale_lr = dict(base_batch_size=1024)
