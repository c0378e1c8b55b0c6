# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = ('dyn-perceiver-tsm_in1k-pre-resnet50-w0625-n128_'
          '8xb8-1x1x8-50e_sthv1-rgb.py')

# TSM's accurate protocol: two samples of frames, three crops of full height.
# A video decides on all its 48 images together.
test_pipeline = [
    dict(
        type='SampleFrames',
        clip_len=1,
        num_clips=8,
        twice_sample=True,
        test_mode=True),
    dict(type='RawFrameDecode'),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='ThreeCrop', crop_size=256),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs', meta_keys=('frame_dir', )),
]
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
