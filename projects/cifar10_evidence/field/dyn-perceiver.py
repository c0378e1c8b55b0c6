# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dyn-Perceiver."""
_base_ = ('../../../configs/cifar/'
          'dyn-perceiver_resnet22-w025_1xb128-10e_cifar10-folder.py')

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best=None))
