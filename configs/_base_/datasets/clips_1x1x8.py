# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Clips of moving digits, from `python -m projects.digits --kind clips`.
data_root = 'data/clips/'
classes = ('left', 'right', 'up', 'down', 'clockwise', 'counterclockwise',
           'growing', 'shrinking')

# In a mirror left is right, and clockwise is counterclockwise.
flip_label_map = {0: 1, 1: 0, 4: 5, 5: 4}

# The clips have their size already.
train_pipeline = [
    dict(type='DecordInit'),
    dict(type='RequireFrames', min_frames=8),
    dict(type='SampleFrames', clip_len=1, num_clips=8),
    dict(type='DecordDecode'),
    dict(type='Flip', flip_ratio=0.5, flip_label_map=flip_label_map),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs', meta_keys=('filename', )),
]
test_pipeline = [
    dict(type='DecordInit'),
    dict(type='RequireFrames', min_frames=8),
    dict(type='SampleFrames', clip_len=1, num_clips=8, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs', meta_keys=('filename', )),
]

dataset = dict(
    type='CheckedVideoDataset',
    data_root=data_root,
    data_prefix=dict(video=''),
    metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**dataset, ann_file='train.txt', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset, ann_file='val.txt', pipeline=test_pipeline, test_mode=True))
test_dataloader = dict(
    val_dataloader,
    dataset=dict(val_dataloader['dataset'], ann_file='test.txt'))
val_evaluator = dict(type='EarlyExitMetric', topk=(1, ))
test_evaluator = val_evaluator
