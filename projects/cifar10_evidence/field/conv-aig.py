# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The static network whose blocks are skipped image by image."""
_base_ = ('../../../configs/conv_aig/'
          'conv-aig-t060_resnet22-w025_1xb128-10e_cifar10-folder.py')

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best=None))
