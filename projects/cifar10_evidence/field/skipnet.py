# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The static network whose blocks are skipped image by image, at a price."""
_base_ = ('../../../configs/skipnet/'
          'skipnet-rnn_resnet22-w025_1xb128-10e_cifar10-folder.py')

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best=None))
