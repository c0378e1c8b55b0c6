# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The network itself and leaving early: torch and torchvision only.

What is not named here is imported from its module.
"""
from ..compat.renamed import moved_names
from .accelerate.captured import capture_segments, graph_statistics
from .accelerate.compiled import compile_segments
from .accelerate.prepared import prepare_for_inference
from .complexity import count_macs, macs_per_exit
from .conv_trunk import ConvTrunk
from .dyn_perceiver import DynPerceiver
from .early_exit import run_all_exits, run_early_exit
from .early_exit_net import EarlyExitNet
from .exits import Exits
from .feature_branch import (FeatureBranch, available_archs,
                             build_feature_branch, split_backbone)
from .losses import LossWeights, exit_losses
from .models import create_model, list_models
from .official import load_official
from .operating_point import OperatingPoint
from .policy import ExitPolicy, Prediction, fixed_exit_thresholds, select_exits
from .pretrained_branch import load_branch_weights, parameter_groups
from .segments import SegmentedTrunk
from .trunk import Trunk

__all__ = [
    'ConvTrunk', 'DynPerceiver', 'EarlyExitNet', 'ExitPolicy', 'Exits',
    'FeatureBranch', 'LossWeights', 'OperatingPoint', 'Prediction',
    'SegmentedTrunk', 'Trunk', 'available_archs', 'build_feature_branch',
    'capture_segments', 'compile_segments', 'count_macs', 'create_model',
    'exit_losses', 'fixed_exit_thresholds', 'graph_statistics', 'list_models',
    'load_branch_weights', 'load_official', 'macs_per_exit',
    'parameter_groups', 'prepare_for_inference', 'run_all_exits',
    'run_early_exit', 'select_exits', 'split_backbone'
]

__getattr__ = moved_names(__name__)
