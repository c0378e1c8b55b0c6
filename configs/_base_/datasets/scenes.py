# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Scenes of digits, as `python -m projects.digits --kind scenes` makes them:
# 96x96 pixels, up to six digits.
data_root = 'data/scenes/'
metainfo = dict(classes=tuple('0123456789'))

pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    # They have this size; the host asks for the factor.
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackDetInputs')
]
dataset = dict(
    type='CheckedCocoDataset',
    data_root=data_root,
    metainfo=metainfo,
    pipeline=pipeline)

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **dataset,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/')))
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        test_mode=True))
test_dataloader = dict(
    batch_size=50,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        ann_file='annotations/test.json',
        data_prefix=dict(img='test/'),
        test_mode=True))

# A folder given by data_root holds for these files too.
val_evaluator = dict(
    type='EarlyExitCocoMetric', ann_file=data_root + 'annotations/val.json')
test_evaluator = dict(
    type='EarlyExitCocoMetric', ann_file=data_root + 'annotations/test.json')
