# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The network itself: torch and torchvision only."""
from .calibration import (HeldOut, Outcome, area_under_curve, evaluate,
                          expected_calibration_error, failure_auroc,
                          fit_temperature, random_exit_outcome)
from .checkpoint_file import (atomic_save, check_weights, conversions,
                              dtype_fault, read_checkpoint)
from .checkpoint_scan import check_file
from .compiled import BUCKETS, MODES, compile_segments, in_mode
from .complexity import CountsMacs, count_macs, expected_macs, macs_per_exit
from .conv_trunk import ConvTrunk
from .criteria import CRITERIA, check_temperature, confidence, confidences
from .dyn_perceiver import DynPerceiver, build_exits
from .early_exit import (Arrived, Carried, as_images, average_groups,
                         leave_early, put_rows, run_all_exits, run_early_exit,
                         run_step, running_stats_for_one)
from .exits import PAPER_KINDS, Exits
from .feature_branch import (FeatureBranch, available_archs,
                             build_feature_branch, feature_branch_from_stages,
                             split_backbone)
from .image_checks import check_images
from .inference import prepare_for_inference
from .intervals import mean_interval, paired_interval, wilson_interval
from .losses import LossWeights, exit_losses, self_distillation
from .official import infer_variant, load_official, published_weights
from .operating_point import OperatingPoint, describe_model
from .policy import (ExitPolicy, Prediction, check_thresholds,
                     fixed_exit_thresholds, select_exits)
from .segments import Half, SegmentedTrunk, TrunkState
from .share_solver import (paper_shares, share_solution_for_budget,
                           solve_by_shares)
from .threshold_search import ThresholdSearch, search_thresholds
from .thresholds_file import load_thresholds, save_thresholds
from .trunk import EXIT_PLANS, Stage, TokenMixer, Trunk

__all__ = [
    'Arrived', 'BUCKETS', 'CRITERIA', 'Carried', 'ConvTrunk', 'CountsMacs',
    'DynPerceiver', 'EXIT_PLANS', 'ExitPolicy', 'Exits', 'FeatureBranch',
    'Half', 'HeldOut', 'LossWeights', 'MODES', 'OperatingPoint', 'Outcome',
    'PAPER_KINDS', 'Prediction', 'SegmentedTrunk', 'Stage', 'ThresholdSearch',
    'TokenMixer', 'Trunk', 'TrunkState', 'area_under_curve', 'as_images',
    'atomic_save', 'available_archs', 'average_groups', 'build_exits',
    'build_feature_branch', 'check_file', 'check_images', 'check_temperature',
    'check_thresholds', 'check_weights', 'compile_segments', 'confidence',
    'confidences', 'conversions', 'count_macs', 'describe_model',
    'dtype_fault', 'evaluate', 'exit_losses', 'expected_calibration_error',
    'expected_macs', 'failure_auroc', 'feature_branch_from_stages',
    'fit_temperature', 'fixed_exit_thresholds', 'in_mode', 'infer_variant',
    'leave_early', 'load_official', 'load_thresholds', 'macs_per_exit',
    'mean_interval', 'paired_interval', 'paper_shares',
    'prepare_for_inference', 'published_weights', 'put_rows',
    'random_exit_outcome', 'read_checkpoint', 'run_all_exits',
    'run_early_exit', 'run_step', 'running_stats_for_one', 'save_thresholds',
    'search_thresholds', 'select_exits', 'self_distillation',
    'share_solution_for_budget', 'solve_by_shares', 'split_backbone',
    'wilson_interval'
]
