# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The classification branches: what a trunk puts around each stage."""
import math
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Type

from torch import Tensor, nn

from .attention import X2Z, Z2X, SelfAttentionBlock
from .latency_first import ChannelGate, ParallelBlock, ReadingBlock

__all__ = [
    'BASE_DEPTHS', 'BRANCHES', 'LatencyFirstBranch', 'PaperBranch',
    'TokenMixer'
]

# Self-attention blocks of the four stages before the depth factor.
BASE_DEPTHS = (3, 3, 9, 3)


class TokenMixer(nn.Module):
    """Reduce the number of latents and widen them between two stages.

    Shape: (B, num_latents, channels) -> (B, out_latents, out_channels).
    """

    def __init__(self, num_latents: int, out_latents: int, channels: int,
                 out_channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.LayerNorm(num_latents), nn.Linear(num_latents, out_latents))
        self.expand = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, out_channels))

    def forward(self, z: Tensor) -> Tensor:
        """Mix over the tokens, then over the channels."""
        return self.expand(self.mix(z.transpose(1, 2)).transpose(1, 2))


class PaperBranch:
    """The paper's classification branch; it makes the parts of each stage.

    Args:
        channels (Sequence[int]): Channels C1..C5 of X_0..X_4.
        depth_factor (Sequence[float]): What the feature branch suggests.
        options (Mapping): Options of :class:`~mmdynperceiver.core.Trunk`;
            None stands for that in ``defaults``.

    Attributes:
        defaults (dict): What options are that are not given.
        missing (tuple[str]): Options that this branch does not have.
        options (dict): What the options are.
        tokens, widths, depths (list[int]): Number and width of the latents,
            and self-attention blocks, of the four stages.

    Raises:
        ValueError: If an option is out of its range.
    """

    defaults: Dict[str, Any] = dict(
        num_latents=128,
        num_heads=(1, 2, 4, 8),
        mlp_ratio=4,
        dw_conv=True,
        last_z2x=True,
        token_mixer=True,
        first_x2z=0,
        exits='classification')
    missing: Tuple[str, ...] = ('latent_channels', 'first_x2z')
    block: Type[nn.Module] = SelfAttentionBlock
    fewest_latents = 8
    # Whether z2x is attention, which leaves maps channels last.
    maps_as_tokens = True

    def __init__(self, channels: Sequence[int], depth_factor: Sequence[float],
                 options: Mapping[str, Any]) -> None:
        self.channels = channels
        self.options = {'depth_factor': depth_factor, **self.defaults}
        for name, value in options.items():
            if value is None:
                continue
            if name in self.missing:
                raise ValueError(f'this classification branch has no {name}, '
                                 f'got {value!r}: leave it out')
            self.options[name] = value
        self._check_sizes()
        # The first stage, 0-based, whose features are read.
        self.first: int = self.options['first_x2z']
        self.tokens, self.widths = self.latent_sizes()
        self.depths = [
            round(n * f)
            for n, f in zip(BASE_DEPTHS, self.options['depth_factor'])
        ]
        self._check_heads()

    def _check_sizes(self) -> None:
        """Refuse sizes out of their range."""
        count, fewest = self.options['num_latents'], self.fewest_latents
        if not isinstance(count, int) or count < fewest:
            reason = ', because stage 4 keeps one eighth of them' \
                if fewest == 8 else ''
            raise ValueError(f'num_latents must be a whole number of at least '
                             f'{fewest}{reason}, got {count!r}')
        factors = self.options['depth_factor']
        ratio = self.options['mlp_ratio']
        if len(factors) != 4 or not all(f >= 0 for f in factors):
            raise ValueError(
                f'depth_factor must be four numbers of at least 0, got '
                f'{tuple(factors)!r}')
        if not ratio > 0:
            raise ValueError(f'mlp_ratio must be positive, got {ratio!r}')
        if self.options['first_x2z'] not in (0, 1, 2):
            raise ValueError(f'first_x2z must be 0, 1 or 2, because the first '
                             f'exit is in the third stage, got '
                             f'{self.options["first_x2z"]!r}')

    def _check_heads(self) -> None:
        """Refuse heads that do not divide the widths of the latents."""
        heads, widths = self.options['num_heads'], self.widths
        if len(heads) != 4 or not all(
                isinstance(number, int) and number > 0 for number in heads):
            raise ValueError(f'num_heads must be four whole numbers of at '
                             f'least 1, got {heads!r}')
        fitting = tuple(
            math.gcd(number, width) if self.attends(stage) else number
            for stage, (number, width) in enumerate(zip(heads, widths)))
        if fitting != tuple(heads):
            raise ValueError(
                f'the numbers of self-attention heads must divide the '
                f'channels that enter the stages, got {tuple(heads)} heads '
                f'for {tuple(widths)} channels: num_heads={fitting} would fit')

    def attends(self, stage: int) -> bool:
        """Whether a stage, 0-based, has attention of several heads."""
        return self.depths[stage] > 0

    def latent_sizes(self) -> Tuple[List[int], List[int]]:
        """Number and width of the latents in the four stages."""
        count = self.options['num_latents']
        if self.options['token_mixer']:
            return [count // 2**i for i in range(4)], list(self.channels[:4])
        return [count] * 4, [self.channels[0]] * 4

    def parts(self, stage: int) -> Dict[str, Any]:
        """What :class:`~mmdynperceiver.core.trunk.Stage` puts around the
        convolutions of a stage, 0-based; the latents do not go to the
        features before they have read some."""
        chosen = self.options
        blocks = nn.Sequential(
            *(self.block(self.widths[stage], chosen['num_heads'][stage],
                         chosen['mlp_ratio'])
              for _ in range(self.depths[stage])))
        reads = stage >= self.first and (chosen['x2z'] or stage == self.first)
        return dict(
            blocks=blocks,
            x2z=self.x2z(stage) if reads else None,
            token_mixer=TokenMixer(self.tokens[stage], self.tokens[stage + 1],
                                   self.widths[stage], self.widths[stage + 1])
            if chosen['token_mixer'] and stage < 3 else None,
            z2x=self.z2x(stage + 1)
            if chosen['z2x'] and self.first <= stage < 3 else None)

    def x2z(self, stage: int) -> nn.Module:
        """How the latents read the features at the start of a stage."""
        return X2Z(self.channels[stage], self.widths[stage],
                   self.options['dw_conv'])

    def z2x(self, level: int) -> nn.Module:
        """How the feature map X_1..X_4 reads the latents."""
        return Z2X(self.channels[level], self.widths[min(level, 3)])


class LatencyFirstBranch(PaperBranch):
    """The branch of :mod:`~mmdynperceiver.core.latency_first`: as many and
    as wide latents in all stages, which read the features from the stage
    ``first_x2z`` on."""

    defaults: Dict[str, Any] = dict(
        num_latents=16,
        latent_channels=192,
        depth_factor=(0, 0, 0, 0),
        num_heads=(3, 3, 3, 3),
        mlp_ratio=2,
        last_z2x=False,
        token_mixer=False,
        first_x2z=1,
        exits='joint')
    missing = ('dw_conv', 'token_mixer')
    fewest_latents = 1
    maps_as_tokens = False
    block = ParallelBlock

    def latent_sizes(self) -> Tuple[List[int], List[int]]:
        """Number and width of the latents in the four stages."""
        width = self.options['latent_channels']
        if not isinstance(width, int) or width < 1:
            raise ValueError(f'latent_channels must be a whole number of at '
                             f'least 1, got {width!r}')
        return [self.options['num_latents']] * 4, [width] * 4

    def attends(self, stage: int) -> bool:
        """Whether a stage, 0-based, has attention of several heads."""
        return stage >= self.first or super().attends(stage)

    def x2z(self, stage: int) -> nn.Module:
        """How the latents read the features at the start of a stage."""
        return ReadingBlock(self.channels[stage], self.widths[stage],
                            self.options['num_heads'][stage],
                            self.options['mlp_ratio'])

    def z2x(self, level: int) -> nn.Module:
        """How the feature map X_1..X_4 reads the latents."""
        return ChannelGate(self.channels[level], self.widths[min(level, 3)])


BRANCHES: Dict[str, Type[PaperBranch]] = {
    'paper': PaperBranch,
    'latency-first': LatencyFirstBranch
}
