# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A trunk of any family, its exits and a policy as one module."""
from typing import Any, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from .complexity import CountsMacs
from .early_exit import run_all_exits, run_early_exit, running_stats_for_one
from .exits import Exits
from .image_checks import check_images
from .policy import ExitPolicy, Prediction
from .segments import SegmentedTrunk

__all__ = ['EarlyExitNet', 'build_exits']


def build_exits(trunk: SegmentedTrunk,
                num_classes: int,
                fkt: bool = True,
                dropout: Optional[float] = None,
                boosting: Optional[float] = None) -> Exits:
    """Build the exits that a trunk declares, as its family is published, where
    ``dropout`` and ``boosting`` do not say otherwise."""
    return Exits(
        trunk.exit_channels,
        num_classes,
        fkt=fkt,
        hidden_channels=trunk.hidden_channels,
        dropout=trunk.dropout if dropout is None else dropout,
        init_std=trunk.head_init_std,
        kinds=trunk.exit_kinds,
        boosting=boosting)


class EarlyExitNet(CountsMacs, nn.Module):
    """A network that leaves early, of a trunk of any family.

    Args:
        trunk (SegmentedTrunk): The network without its exits.
        num_classes (int): Number of classes.
        fkt, dropout, boosting: As of :class:`Exits`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from mmdynperceiver.core.networks import MSDNet
        >>> net = EarlyExitNet(MSDNet(3, base=1, step=1), 10).eval()
        >>> out = net.predict(torch.rand(8, 3, 64, 64), thresholds=(0.9, 0.8))
        >>> out.exit_index.shape
        torch.Size([8])
    """

    def __init__(self,
                 trunk: SegmentedTrunk,
                 num_classes: int,
                 fkt: bool = True,
                 dropout: Optional[float] = None,
                 boosting: Optional[float] = None) -> None:
        super().__init__()
        self._exit_settings: Tuple[Any, ...] = (fkt, dropout, boosting)
        self.trunk = trunk
        self.exits = build_exits(trunk, num_classes, *self._exit_settings)
        self.policy = ExitPolicy(self.exits.num_exits)

    def exit_parts(self) -> Tuple[SegmentedTrunk, Exits]:
        """The trunk and the exits."""
        return self.trunk, self.exits

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.exits.num_classes

    def get_classifier(self) -> Exits:
        """The classifiers of all exits, as timm calls them."""
        return self.exits

    def reset_classifier(self, num_classes: int) -> None:
        """Put new classifiers in place, for other classes; thresholds, which
        belong to the old ones, are dropped.

        Args:
            num_classes (int): How many classes.

        Raises:
            ValueError: If it is no positive whole number.
        """
        exits = build_exits(self.trunk, num_classes, *self._exit_settings)
        like = next(self.exits.parameters())
        self.exits = exits.to(like.device, like.dtype).train(self.training)
        self.policy = ExitPolicy(exits.num_exits)

    def forward_features(self, images: Tensor) -> Any:
        """The state behind the last segment, of normalised images (B, 3, H,
        W): in Dyn-Perceiver what the last exit pools, the feature map x (B,
        C, h, w) and the latents z (B, N, D).

        Raises:
            TypeError, ValueError: As of :meth:`forward`.
        """
        with running_stats_for_one(self, len(images)):
            state = self.trunk.initial_state(images)
            for index in range(self.trunk.num_segments):
                state = self.trunk.segment(index, state)[0]
        return state

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Run all exits.

        In training, thresholds that a checkpoint brought are dropped: they
        belong to its weights.

        Args:
            images (Tensor): Normalised images (B, 3, H, W).

        Returns:
            tuple[Tensor]: Logits (B, K) of the exits, shallow to deep.

        Raises:
            TypeError: If it is no floating-point tensor.
            ValueError: If the shape does not fit.
        """
        check_images(images, self.trunk.min_size)
        if self.training and torch.is_grad_enabled():
            self.policy.drop_loaded()
        with running_stats_for_one(self, len(images)):
            return run_all_exits(self.trunk, self.exits, images)

    def predict(self,
                images: Tensor,
                thresholds: Optional[Sequence[float]] = None) -> Prediction:
        """Run each image only until it leaves.

        Args:
            images (Tensor): Normalised images (B, 3, H, W).
            thresholds (Sequence[float], optional): One confidence for each
                exit but the last; an image leaves at the first exit that
                reaches its threshold (0: all leave, above 1: none does).
                Defaults to None: those set on ``policy``; without any, all
                images run to the last exit.

        Returns:
            Prediction: ``logits`` (B, K), ``exit_index`` (B,), 0-based, and
            ``confidence`` (B,).

        Raises:
            RuntimeError: If the network is in training mode.
            TypeError: If the images are no floating-point tensor.
            ValueError: If the thresholds or the images do not fit.
        """
        if self.training:
            raise RuntimeError(
                'predict was called in training mode, in which batch norms '
                'mix the samples of a batch: call eval() first')
        policy = self.policy
        if thresholds is not None:
            policy = ExitPolicy(policy.num_exits, thresholds,
                                **policy.settings)
        return run_early_exit(self.trunk, self.exits, policy, images)
