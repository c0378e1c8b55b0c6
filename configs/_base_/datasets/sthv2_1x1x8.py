# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Something-Something V2: video files, listed as MMAction2's data tools list
# them.
_base_ = 'tsm_1x1x8.py'

data_root = 'data/sthv2'
dataset = dict(data_root=data_root, data_prefix=dict(video='videos'))

# Classes that change sides in a mirror.
flip_label_map = {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}
flip = dict(type='Flip', flip_ratio=0.5, flip_label_map=flip_label_map)
train_pipeline = [
    *_base_.train_pipeline[:-3], flip, *_base_.train_pipeline[-2:]
]
train_dataloader = dict(
    dataset=dict(
        **dataset,
        ann_file='sthv2_train_list_videos.txt',
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(**dataset, ann_file='sthv2_val_list_videos.txt'))
test_dataloader = val_dataloader
