# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Something-Something V1: folders of frames, listed as MMAction2's data tools
# list them. tools/dataset_checkers/check_sthv1.py checks it all.
_base_ = 'tsm_1x1x8.py'

data_root = 'data/sthv1'
dataset = dict(
    type='CheckedRawframeDataset',
    data_root=data_root,
    filename_tmpl='{:05}.jpg',
    data_prefix=dict(img='rawframes'))

decode = dict(type='RawFrameDecode')
# Classes that change sides in a mirror.
flip_label_map = {2: 4, 4: 2, 30: 41, 41: 30, 52: 66, 66: 52}
flip = dict(type='Flip', flip_ratio=0.5, flip_label_map=flip_label_map)
pack = dict(type='PackActionInputs', meta_keys=('frame_dir', ))
# Crops and sizes are those of the video files.
train_pipeline = [
    _base_.train_pipeline[1], decode, *_base_.train_pipeline[3:-3], flip,
    _base_.train_pipeline[-2], pack
]
test_pipeline = [
    _base_.test_pipeline[1], decode, *_base_.test_pipeline[3:-1], pack
]
train_dataloader = dict(
    dataset=dict(
        **dataset,
        ann_file='sthv1_train_list_rawframes.txt',
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        **dataset,
        ann_file='sthv1_val_list_rawframes.txt',
        pipeline=test_pipeline,
        test_mode=True))
test_dataloader = val_dataloader
