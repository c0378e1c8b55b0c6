# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the adapters of all hosts share.

What is registered here stands in mmengine's root registries, so configs of
every host find it.
"""
from .exit_curve import ExitCurveHook
from .hooks import CheckDataHook, EvaluateAllExitsHook, InferenceModeHook
from .metrics import EarlyExitMetric
from .optim_wrapper import BFloat16OptimWrapper
from .progress import ProgressBarHook
from .resume import CheckCheckpointHook
from .timed_schedule import SlicedSampler, TimedScheduleHook
from .weight_average import WarmupEMAHook

__all__ = [
    'BFloat16OptimWrapper', 'CheckCheckpointHook', 'CheckDataHook',
    'EarlyExitMetric', 'EvaluateAllExitsHook', 'ExitCurveHook',
    'InferenceModeHook', 'ProgressBarHook', 'SlicedSampler',
    'TimedScheduleHook', 'WarmupEMAHook'
]
