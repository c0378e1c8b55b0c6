# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The feature branch alone: what Dynamic Perceiver is compared with."""
from typing import Any, Mapping, Optional, Sequence, Union

from torch import nn

from .feature_branch import FeatureBranch, build_feature_branch
from .segments import Half, StagedTrunk, TrunkState

__all__ = ['ConvTrunk']


class ConvTrunk(StagedTrunk):
    """A convolutional network, static or with classifiers on the way.

    With one exit after the last stage this is the ordinary static network;
    with more exits, the classic multi-exit network (Table 2 of arXiv
    2306.11248): its early classifiers read, and in training bend, the
    features that later stages build on.

    Args:
        arch (str | Mapping | FeatureBranch): As for :class:`Trunk`. Defaults
            to 'regnety-800mf'.
        width (float): Width factor of ResNet and MobileNet-v3 branches.
            Defaults to 1.
        drop_path_rate (float, optional): Stochastic depth of ResNet
            branches. Defaults to None, the published 0.2.
        exit_stages (Sequence[int]): The stages, 0-based, behind which an
            exit stands; the last one is stage 3. Defaults to (3, ).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> trunk = ConvTrunk('resnet18', width=0.25, exit_stages=(2, 3))
        >>> [[v.shape[1] for v in f] for f in trunk(torch.rand(2, 3, 64, 64))]
        [[64], [128]]
    """

    def __init__(
        self,
        arch: Union[str, Mapping[str, Any], FeatureBranch] = 'regnety-800mf',
        width: float = 1.,
        drop_path_rate: Optional[float] = None,
        exit_stages: Sequence[int] = (3, )
    ) -> None:
        stages = tuple(exit_stages)
        if not stages or stages[-1] != 3 or \
                list(stages) != sorted(set(stages) & {0, 1, 2, 3}):
            raise ValueError(
                f'exit_stages must rise from 0 or more to 3, the last stage, '
                f'got {exit_stages!r}')
        firsts = (0, *(stage + 1 for stage in stages))
        super().__init__([((*([Half('stem')] if first == 0 else []),
                            *(Half('extract', stage)
                              for stage in range(first, last + 1))), 'x')
                          for first, last in zip(firsts, stages)])
        branch = build_feature_branch(arch, width, drop_path_rate)
        self.attach(branch)
        # Named as in Trunk, so that weights can move between the two.
        self.stages = nn.ModuleList(
            nn.ModuleDict(dict(conv=conv)) for conv in branch.stages)
        self.exit_channels = tuple(
            (branch.channels[stage + 1], ) for stage in stages)

    def run_half(self, half: Half, state: TrunkState) -> TrunkState:
        """Run the stem or a stage."""
        if half.kind == 'stem':
            return TrunkState(self.stem(state.x), None)
        stage: Any = self.stages[half.stage]
        return TrunkState(stage['conv'](state.x), None)
