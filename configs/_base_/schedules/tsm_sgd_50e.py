# Copyright (c) mmdynperceiver contributors. All rights reserved.
max_epochs = 50

# TSM's rule: biases learn twice as fast, norms and biases do not decay, and
# the new classifiers learn five times as fast.
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(
        bias_lr_mult=2.,
        bias_decay_mult=0.,
        norm_decay_mult=0.,
        custom_keys={'cls_head.exits.classifiers': dict(lr_mult=5.)}),
    clip_grad=dict(max_norm=20, norm_type=2))

param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_epochs,
        by_epoch=True,
        milestones=[20, 40],
        gamma=0.1)
]

train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# 8 GPUs x 8 videos; `--auto-scale-lr` scales to the batch at hand.
auto_scale_lr = dict(base_batch_size=64)
