# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'msdnet-7exits_1xb64-300e_cifar10.py'

model = dict(backbone=dict(num_exits=10))
