# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'mmpretrain::_base_/datasets/cifar10_bs16.py'

train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=500)
test_dataloader = dict(batch_size=500)
val_evaluator = dict(_delete_=True, type='EarlyExitMetric', topk=(1, ))
test_evaluator = val_evaluator
