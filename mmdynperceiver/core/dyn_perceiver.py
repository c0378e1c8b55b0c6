# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dynamic Perceiver as one module: trunk, exits and policy."""
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Union

from .accelerate.fast_blocks import use_fast_blocks
from .early_exit_net import EarlyExitNet, build_exits
from .feature_branch import FeatureBranch
from .trunk import Trunk, TrunkOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ['DynPerceiver', 'build_exits']


class DynPerceiver(EarlyExitNet):
    """Dynamic Perceiver for classification (arXiv 2306.11248).

    Args:
        arch (str | Mapping | FeatureBranch): As for ``Trunk``. Defaults to
            'regnety-800mf'.
        num_classes (int): Number of classes. Defaults to 1000.
        fkt (bool): Forward knowledge transfer. Defaults to True.
        dropout (float, optional): Dropout rate of the last two exits.
            Defaults to None, the published rate of the family.
        boosting (float, optional): As of :class:`Exits`. Defaults to None.
        **kwargs: Arguments of ``Trunk``: ``num_latents``, ``width``,
            ``depth_factor``, ``mlp_ratio``, ``drop_path_rate``, the ablation
            switches and ``exits``.

    Attributes:
        trunk (Trunk): The network without its exits.

    Raises:
        ValueError: If an argument is out of its range; an unknown ``arch``
            lists the known ones.

    Example:
        >>> net = DynPerceiver('resnet18', width=0.25, num_latents=16,
        ...                    num_classes=10).eval()
        >>> images = torch.rand(8, 3, 64, 64)
        >>> [tuple(logits.shape) for logits in net(images)]
        [(8, 10), (8, 10), (8, 10), (8, 10)]
        >>> out = net.predict(images, thresholds=(0.9, 0.8, 0.7))
        >>> out.exit_index.shape
        torch.Size([8])
    """

    trunk: Trunk

    def __init__(self,
                 arch: Union[str, Mapping[str, Any],
                             FeatureBranch] = 'regnety-800mf',
                 num_classes: int = 1000,
                 fkt: bool = True,
                 dropout: Optional[float] = None,
                 boosting: Optional[float] = None,
                 **kwargs: 'Unpack[TrunkOptions]') -> None:
        super().__init__(
            use_fast_blocks(Trunk(arch, **kwargs)), num_classes, fkt, dropout,
            boosting)
        self._settings: Dict[str, Any] = dict(
            arch=None if isinstance(arch, FeatureBranch) else arch,
            fkt=fkt,
            dropout=dropout,
            boosting=boosting,
            **kwargs)

    @property
    def settings(self) -> Dict[str, Any]:
        """Arguments that build such a network, with the classes of now; its
        ``arch`` is None where it was a module."""
        return dict(self._settings, num_classes=self.num_classes)
