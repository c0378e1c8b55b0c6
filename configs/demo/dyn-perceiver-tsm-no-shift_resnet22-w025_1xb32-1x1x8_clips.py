# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The same without the shift: frames meet only in the averaged logits."""
_base_ = 'dyn-perceiver-tsm_resnet22-w025_1xb32-1x1x8_clips.py'

model = dict(backbone=dict(is_shift=False))
