# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'static_resnet22-w025_1xb128-10e_cifar10-folder.py'

# The classic multi-exit network: also exits behind stages 1 and 2.
model = dict(backbone=dict(exit_stages=(1, 2, 3)))
