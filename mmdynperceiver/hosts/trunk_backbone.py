# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A trunk as a backbone of any host: what may be frozen, and how."""
from typing import Any, Callable, Iterator, Optional, Tuple, Union

from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS, Registry
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core import FeatureBranch, SegmentedTrunk, Trunk
from ..core.accelerate.fast_blocks import use_fast_blocks
from ..core.pretrained_branch import check_in_torchvision, load_branch_weights
from ..core.segments import StagedTrunk
from ..errors import input_errors
from ..io.checkpoints import load_matching
from .feature_branch import build_arch

__all__ = ['SegmentedBackbone', 'TrunkBackbone']


class SegmentedBackbone(BaseModule):
    """Base of the backbones whose trunk is a network of any family.

    Args:
        norm_eval (bool): Whether batch norms keep their running statistics
            in training. Defaults to False.
        init_cfg (dict, optional): Initialisation config, such as
            ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.
            Defaults to None.
        gradient_equilibrium (bool): Whether gradients are rescaled in
            training where an exit branches off, so that those of many exits
            do not add up (IMTA, arXiv 1908.06294). Defaults to False.
        **kwargs: Arguments of the trunk.

    Attributes:
        net (SegmentedTrunk): The trunk.
        make_trunk (Callable): Makes it.

    Raises:
        ValueError: If an argument is out of its range.
    """

    make_trunk: Callable[..., SegmentedTrunk]

    def __init__(self,
                 norm_eval: bool = False,
                 init_cfg: Optional[dict] = None,
                 gradient_equilibrium: bool = False,
                 **kwargs: Any) -> None:
        super().__init__(init_cfg=init_cfg)
        self.norm_eval = norm_eval
        self.net = use_fast_blocks(self.make_trunk(**kwargs))
        self.net.gradient_equilibrium = gradient_equilibrium

    @property
    def out_indices(self) -> Tuple[int, ...]:
        """Numbers of the exits, by which vis_tsne.py names its files."""
        return tuple(range(self.net.num_segments))

    def init_weights(self) -> None:
        """Initialise as mmengine does; of a checkpoint, report what was
        loaded of it.

        Raises:
            InputError: If nothing of the checkpoint fits.
        """
        config = self.init_cfg
        path = config.get('checkpoint', '') if isinstance(config, dict) else ''
        if not path or config.get('type') != 'Pretrained' or '://' in path:
            super().init_weights()
            return
        report = load_matching(self, path, config.get('prefix') or '')
        print_log(report, logger='current')
        self._is_init = True

    def train(self, mode: bool = True) -> 'SegmentedBackbone':
        """Set the mode; batch norms may stay in eval mode."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.net.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Tuple[Any, ...]:
        """For each exit the pooled vectors (B, C) of images (B, 3, H, W)."""
        return self.net(images)


class TrunkBackbone(SegmentedBackbone):
    """Base of the backbones of a feature branch; a host registers its own.

    Args:
        arch (str | dict): Name of the feature branch, the ``block`` and
            ``depths`` of another ResNet, or the config of a backbone of any
            host (see :func:`~mmdynperceiver.hosts.feature_branch.build_arch`
            ). Defaults to 'regnety-800mf'.
        frozen_stages (int): What to freeze (no gradient, eval mode): -1
            nothing, 0 the stem and the initial latents, k these and the
            first k stages with both their branches. Defaults to -1.
        norm_eval, init_cfg, gradient_equilibrium: See
            :class:`SegmentedBackbone`.
        backbone_weights (str, optional): Weights of the feature branch alone,
            with which a training starts, see
            :func:`~mmdynperceiver.core.load_branch_weights`. Defaults to
            None.
        freeze_branch (bool): Whether the feature branch alone is frozen.
            Defaults to False.
        **kwargs: Further arguments of the trunk.

    Attributes:
        make_trunk (Callable): Makes the trunk of a feature branch.
        registry (Registry): Where an ``arch`` without a package's name is
            looked up.

    Raises:
        ValueError: If an argument is out of its range.
    """

    net: StagedTrunk
    make_trunk: Callable[..., StagedTrunk] = Trunk
    registry: Registry = MODELS

    def __init__(self,
                 arch: Union[str, dict, FeatureBranch] = 'regnety-800mf',
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 init_cfg: Optional[dict] = None,
                 backbone_weights: Optional[str] = None,
                 freeze_branch: bool = False,
                 **kwargs: Any) -> None:
        if not isinstance(frozen_stages, int) or not -1 <= frozen_stages <= 4:
            raise ValueError(f'frozen_stages must be one of -1 (none) to 4 '
                             f'(all), got {frozen_stages!r}')
        super().__init__(
            norm_eval,
            init_cfg,
            arch=build_arch(arch, self.registry),
            **kwargs)
        self.frozen_stages = frozen_stages
        self.backbone_weights = backbone_weights
        if backbone_weights is not None:
            check_in_torchvision(self.net)
        if freeze_branch:
            self.net.freeze_branch()
        for module in self._frozen_modules():
            module.requires_grad_(False)
        if isinstance(self.net, Trunk):
            self.net.latents.requires_grad_(frozen_stages < 0)

    def _frozen_modules(self) -> Iterator[nn.Module]:
        """Yield the modules that ``frozen_stages`` freezes."""
        if self.frozen_stages >= 0:
            yield self.net.stem
            yield from self.net.stages[:self.frozen_stages]

    def init_weights(self) -> None:
        """Initialise; of a checkpoint, report what was loaded of it.

        Raises:
            InputError: If nothing of the checkpoint fits, or not all of
                ``backbone_weights`` do.
        """
        super().init_weights()
        if self.backbone_weights is not None:
            with input_errors(OSError, ValueError, ImportError):
                report = load_branch_weights(self.net, self.backbone_weights)
            print_log(report, logger='current')

    def train(self, mode: bool = True) -> 'TrunkBackbone':
        """Set the mode; what is frozen stays in eval mode."""
        super().train(mode)
        if mode:
            for module in self._frozen_modules():
                module.eval()
        return self
