# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Metrics, hooks and command lines for early-exit models of any task.

What is registered here stands in mmengine's root registries, so configs of
every host find it.
"""
from .collect import ExitLogits, collect_exit_logits
from .errors import InputError
from .exit_head import (build_loss_weights, check_classes, check_one_label,
                        exit_settings, fill_predictions)
from .exit_model import EarlyExitModel
from .feature_branch import build_arch
from .hooks import (CheckDataHook, EvaluateAllExitsHook, InferenceModeHook,
                    unwrap_model)
from .metrics import (EarlyExitMetric, SampleResult, exit_statistics,
                      label_ranks)
from .optim_wrapper import BFloat16OptimWrapper
from .progress import ProgressBarHook, progress_bar
from .resume import CheckCheckpointHook, check_resumable
from .trunk_backbone import TrunkBackbone
from .weight_average import WarmupEMAHook

__all__ = [
    'BFloat16OptimWrapper', 'CheckCheckpointHook', 'CheckDataHook',
    'EarlyExitMetric', 'EarlyExitModel', 'EvaluateAllExitsHook', 'ExitLogits',
    'InferenceModeHook', 'InputError', 'ProgressBarHook', 'SampleResult',
    'TrunkBackbone', 'WarmupEMAHook', 'build_arch', 'build_loss_weights',
    'check_classes', 'check_one_label', 'check_resumable',
    'collect_exit_logits', 'exit_settings', 'exit_statistics',
    'fill_predictions', 'label_ranks', 'progress_bar', 'unwrap_model'
]
