# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The rate falls to a tenth after a half and after three quarters of 300
# epochs, the recipe of many networks on CIFAR.
max_epochs = 300

optim_wrapper = dict(
    optimizer=dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True))

param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_epochs,
        by_epoch=True,
        milestones=[150, 225],
        gamma=0.1)
]

train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=64)
