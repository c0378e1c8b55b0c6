# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The network itself: torch and torchvision only."""
from .calibration import (Outcome, evaluate_thresholds, paper_shares,
                          solve_by_shares)
from .complexity import CountsMacs, expected_macs, macs_per_exit
from .dyn_perceiver import DynPerceiver, build_exits
from .early_exit import (Carried, run_all_exits, run_early_exit, run_step,
                         running_stats_for_one)
from .exits import Exits
from .feature_branch import (FeatureBranch, available_archs,
                             build_feature_branch)
from .losses import LossWeights, self_distillation
from .official import infer_variant, load_official, read_checkpoint
from .policy import (ExitPolicy, Prediction, check_thresholds, confidence,
                     fixed_exit_thresholds, select_exits)
from .thresholds_file import load_thresholds, save_thresholds
from .trunk import Stage, TokenMixer, Trunk, TrunkState, check_images

__all__ = [
    'Carried', 'CountsMacs', 'DynPerceiver', 'ExitPolicy', 'Exits',
    'FeatureBranch', 'LossWeights', 'Outcome', 'Prediction', 'Stage',
    'TokenMixer', 'Trunk', 'TrunkState', 'available_archs', 'build_exits',
    'build_feature_branch', 'check_images', 'check_thresholds', 'confidence',
    'evaluate_thresholds', 'expected_macs', 'fixed_exit_thresholds',
    'infer_variant', 'load_official', 'load_thresholds', 'macs_per_exit',
    'paper_shares', 'read_checkpoint', 'run_all_exits', 'run_early_exit',
    'run_step', 'running_stats_for_one', 'save_thresholds', 'select_exits',
    'self_distillation', 'solve_by_shares'
]
