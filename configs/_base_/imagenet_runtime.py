# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'default_runtime.py'

custom_hooks = [
    dict(type='EvaluateAllExitsHook'),
    dict(type='CheckDataHook'),
    dict(type='ExitCurveHook'),
    # decay 0.9999, less in the first 100,000 steps; batch norms' statistics
    # are averaged too
    dict(
        type='WarmupEMAHook',
        momentum=1e-4,
        update_buffers=True,
        priority='ABOVE_NORMAL'),
]
