# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Blood cells, once tools/dataset_converters/voc_to_coco.py has written
# data/BCCD/annotations. Images have 640x480 pixels.
data_root = 'data/BCCD/'
metainfo = dict(classes=('Platelets', 'RBC', 'WBC'))
scale = (320, 240)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
    dict(type='PackDetInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='PackDetInputs')
]
dataset = dict(
    type='CheckedCocoDataset',
    data_root=data_root,
    metainfo=metainfo,
    data_prefix=dict(img='JPEGImages/'),
    # Two of the boxes have no width.
    on_bad_box='skip')

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **dataset, ann_file='annotations/train.json', pipeline=train_pipeline))
loader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataset = dict(**dataset, pipeline=test_pipeline, test_mode=True)
val_dataloader = dict(
    **loader,
    persistent_workers=True,
    dataset=dict(**test_dataset, ann_file='annotations/val.json'))
test_dataloader = dict(
    **loader, dataset=dict(**test_dataset, ann_file='annotations/test.json'))
val_evaluator = dict(
    type='CheckedCocoMetric',
    ann_file=data_root + 'annotations/val.json',
    on_bad_box='skip',
    metric='bbox')
test_evaluator = dict(
    val_evaluator, ann_file=data_root + 'annotations/test.json')
