# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'msdnet-7exits_1xb64-300e_cifar100.py'

# Blocks of 1, 2, 3, 4 and 5 layers: for a budget of a batch.
model = dict(backbone=dict(num_exits=5, base=1, step=1, step_mode='linear'))
