# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The static network at 16 and at 32 pixels, in a cascade."""
_base_ = ('../../../configs/resolution_cascade/'
          'cascade_resnet22-w025_1xb128-10e_cifar10-folder.py')

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best=None))
