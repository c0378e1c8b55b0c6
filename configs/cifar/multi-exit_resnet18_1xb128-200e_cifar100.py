# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'static_resnet18_1xb128-200e_cifar100.py'

# The classic multi-exit network: also exits behind stages 1 and 2.
model = dict(backbone=dict(exit_stages=(1, 2, 3)))
