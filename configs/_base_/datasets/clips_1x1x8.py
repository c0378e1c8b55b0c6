# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Clips of moving digits, from `python -m mmdynperceiver.datagen --kind clips`.
data_root = 'data/clips/'
num_classes = 8

data_preprocessor = dict(
    type='ActionDataPreprocessor',
    mean=[127.5, 127.5, 127.5],
    std=[63.75, 63.75, 63.75],
    format_shape='NCHW')

# In a mirror left is right, and clockwise is counterclockwise.
flip_label_map = {0: 1, 1: 0, 4: 5, 5: 4}

# The clips have their size already.
train_pipeline = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=1, num_clips=8),
    dict(type='DecordDecode'),
    dict(type='Flip', flip_ratio=0.5, flip_label_map=flip_label_map),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs', meta_keys=('filename', )),
]
test_pipeline = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=1, num_clips=8, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs', meta_keys=('filename', )),
]

dataset = dict(
    type='VideoDataset',
    data_root=data_root,
    data_prefix=dict(video=''),
    pipeline=test_pipeline,
    test_mode=True)
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='VideoDataset',
        data_root=data_root,
        data_prefix=dict(video=''),
        ann_file='train.txt',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, ann_file='val.txt'))
test_dataloader = dict(
    batch_size=50,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, ann_file='test.txt'))
val_evaluator = dict(type='EarlyExitMetric', topk=(1, ))
test_evaluator = val_evaluator
