# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'skipnet-rnn_resnet110_1xb128-164e_cifar10.py'

model = dict(backbone=dict(gate='ff2'))
