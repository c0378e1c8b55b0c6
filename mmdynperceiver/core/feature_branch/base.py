# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What every convolutional network offers as a feature branch."""
from dataclasses import dataclass
from typing import Callable, Optional, Tuple

from torch import nn

__all__ = ['FeatureBranch']


@dataclass
class FeatureBranch:
    """A stage-wise convolutional network: a stem and four stages.

    The trunk owns these parts and interleaves the stages with the
    classification branch. A ResNet may have three stages, for the networks of
    ``core.networks`` only.

    Args:
        stem (nn.Module): Images (B, 3, H, W) -> X_0 (B, channels[0], h, w).
        stages (tuple[nn.Module]): Four modules; stage i takes
            ``channels[i]`` channels and returns ``channels[i + 1]``.
        channels (tuple[int]): Channels C1..C5 of X_0..X_4.
        strides (tuple[int]): Strides of X_0..X_4 against the image.
        depth_factor (tuple[float]): Default multipliers of the numbers of
            self-attention blocks.
        hidden_channels (int, optional): Width of the hidden layer of the
            last two exits' classifiers. Defaults to None, no hidden layer.
        dropout (float): Dropout rate of those classifiers. Defaults to 0.
        head_init_std (float, optional): Standard deviation of the initial
            weights of the feature branch's own classifier. Defaults to None,
            as PyTorch has it.
        init_weights (Callable, optional): Initialises the parts as the
            package that they come from does. Defaults to None, they are.
        torchvision (str, optional): torchvision's name of the network, where
            it has one of the same parts in the same order. Defaults to None.
    """

    stem: nn.Module
    stages: Tuple[nn.Module, ...]
    channels: Tuple[int, ...]
    strides: Tuple[int, ...]
    depth_factor: Tuple[float, ...]
    hidden_channels: Optional[int] = None
    dropout: float = 0.
    head_init_std: Optional[float] = None
    init_weights: Optional[Callable[[], None]] = None
    torchvision: Optional[str] = None
