# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/frame_exit/resnet50.py',
    '../_base_/datasets/kinetics400_1x1x8.py',
    '../_base_/schedules/tsm_sgd_50e.py',
    '../_base_/video_runtime.py',
]

# Ten frames instead of eight.
train_pipeline = [
    dict(step, num_clips=10) if step['type'] == 'SampleFrames' else step
    for step in _base_.train_pipeline
]
test_pipeline = [
    dict(step, num_clips=10) if step['type'] == 'SampleFrames' else step
    for step in _base_.test_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
