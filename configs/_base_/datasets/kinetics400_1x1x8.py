# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Kinetics-400: video files, listed as MMAction2's data tools list them.
_base_ = 'tsm_1x1x8.py'

data_root = 'data/kinetics400'
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='kinetics400_train_list_videos.txt',
        data_prefix=dict(video='videos_train')))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='kinetics400_val_list_videos.txt',
        data_prefix=dict(video='videos_val')))
test_dataloader = val_dataloader
