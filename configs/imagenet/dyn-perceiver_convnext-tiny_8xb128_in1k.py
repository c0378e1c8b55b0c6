# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-800mf_8xb128_in1k.py'

# Any stage-wise backbone of any registry; see docs/any-backbone.md.
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            type='mmpretrain.ConvNeXt',
            arch='tiny',
            drop_path_rate=0.1,
            # The feature map is what the branch needs, normalised.
            gap_before_final_norm=False)))
