# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""ResNet feature branches of any width, built from torchvision's blocks."""
from typing import Any, Dict, List, Sequence, Tuple, Type, Union

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1
from torchvision.ops import StochasticDepth

from .base import FeatureBranch

__all__ = ['RESNET_ARCHS', 'RESNET_BLOCKS', 'resnet']

_Block = Union[BasicBlock, Bottleneck]

RESNET_BLOCKS = dict(basic=BasicBlock, bottleneck=Bottleneck)

RESNET_ARCHS: Dict[str, Dict[str, Any]] = {
    'resnet18': dict(block='basic', depths=(2, 2, 2, 2)),
    'resnet34': dict(block='basic', depths=(3, 4, 6, 3)),
    'resnet50': dict(block='bottleneck', depths=(3, 4, 6, 3)),
}

# Stage 3 has 4 attention heads and stage 4 has 8; each must divide the
# channels that enter its stage, which are the planes of the stage before.
_HEADS_AFTER_STAGE = (2, 4, 8, 1)


def _finish_block(block: _Block, drop_prob: float) -> None:
    """Give a block stochastic depth and a residual branch that starts at 0.

    torchvision's blocks have no stochastic depth (arXiv 1603.09382). A
    sequence behind the last batch norm survives conversion to SyncBatchNorm.
    """
    name = 'bn3' if isinstance(block, Bottleneck) else 'bn2'
    bn = getattr(block, name)
    nn.init.zeros_(bn.weight)
    setattr(block, name,
            nn.Sequential(bn, StochasticDepth(drop_prob, mode='row')))


def _make_stage(block_type: Type[_Block], in_channels: int, planes: int,
                stride: int, drop_probs: List[float]) -> nn.Sequential:
    """Build one ResNet stage with a drop probability for each block."""
    out_channels = planes * block_type.expansion
    blocks = []
    for i, drop_prob in enumerate(drop_probs):
        downsample = None
        if i == 0 and (stride != 1 or in_channels != out_channels):
            downsample = nn.Sequential(
                conv1x1(in_channels, out_channels, stride),
                nn.BatchNorm2d(out_channels))
        block = block_type(in_channels, planes, stride if i == 0 else 1,
                           downsample)
        _finish_block(block, drop_prob)
        blocks.append(block)
        in_channels = out_channels
    return nn.Sequential(*blocks)


def _scale_planes(expansion: int, width: float) -> List[int]:
    """Scale 64, 128, 256, 512 planes by the width factor.

    Widths at which the heads of the next stage would not divide the channels
    go down to the next number that they do divide; no published width is one.
    """
    planes = []
    for base, heads in zip((64, 128, 256, 512), _HEADS_AFTER_STAGE):
        multiple = max(1, heads // expansion)
        scaled = int(base * width)
        planes.append(max(multiple, scaled - scaled % multiple))
    return planes


def _make_stem(stride: int, channels: int) -> nn.Sequential:
    """The layers before the first stage: ImageNet's, or a small one."""
    if stride == 4:
        return nn.Sequential(
            nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def resnet(block: str,
           depths: Sequence[int],
           width: float = 1.,
           drop_path_rate: float = 0.2,
           stem_stride: int = 4) -> FeatureBranch:
    """Build a ResNet feature branch.

    Blocks ('basic' or 'bottleneck') stand ``depths`` times in the four stages,
    or in three, as in the ResNets for CIFAR (of ``width`` 1 / 4);
    ``width`` is a factor on every width, stem included; ``drop_path_rate``,
    that of the last block, grows linearly from 0 at the first. ``stem_stride``
    4 is ImageNet's stem, a 7x7 convolution and a pooling; 1 and 2 are one 3x3
    convolution, for images of 32x32 pixels or so.

    Raises:
        ValueError: If an argument is out of its range.
    """
    if block not in RESNET_BLOCKS:
        raise ValueError(f'block must be one of {", ".join(RESNET_BLOCKS)}, '
                         f'got {block!r}')
    depths = tuple(depths)
    if len(depths) not in (3, 4) or not all(
            isinstance(depth, int) and depth > 0 for depth in depths):
        raise ValueError(f'depths must be three or four whole numbers of at '
                         f'least 1, got {depths!r}')
    if stem_stride not in (1, 2, 4):
        raise ValueError(f'stem_stride must be 1, 2 or 4 (the ImageNet stem), '
                         f'got {stem_stride!r}')
    block_type = RESNET_BLOCKS[block]
    stem_channels = max(1, int(64 * width))
    stem = _make_stem(stem_stride, stem_channels)
    last = max(1, sum(depths) - 1)
    rates = [drop_path_rate * i / last for i in range(sum(depths))]
    channels: Tuple[int, ...] = (stem_channels, )
    stages = []
    widths = _scale_planes(block_type.expansion, width)
    for i, planes in enumerate(widths[:len(depths)]):
        first = sum(depths[:i])
        stages.append(
            _make_stage(block_type, channels[-1], planes, 1 if i == 0 else 2,
                        rates[first:first + depths[i]]))
        channels += (planes * block_type.expansion, )
    for module in (stem, *stages):
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(
                    layer.weight, mode='fan_out', nonlinearity='relu')
    return FeatureBranch(
        stem=stem,
        stages=tuple(stages),
        channels=channels,
        strides=tuple(stem_stride * s
                      for s in (1, 1, 2, 4, 8)[:len(channels)]),
        depth_factor=(1, 1, 1, 1),
        dropout=0.2)
