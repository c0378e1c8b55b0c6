# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The temporal shift in the residual blocks of a feature branch."""
from typing import List

import torch
from mmaction.models.backbones.resnet_tsm import TemporalShift
from torch import Tensor, nn
from torchvision.models.mobilenetv3 import InvertedResidual
from torchvision.models.regnet import ResBottleneckBlock
from torchvision.models.resnet import BasicBlock, Bottleneck

from ..core.accelerate.replace import is_unmodified
from ..core.segments import StagedTrunk

__all__ = ['ShiftedConv2d', 'insert_shift']

# Where the residual branch of each kind of block begins.
FIRST_CONVS = {
    BasicBlock: 'conv1',
    Bottleneck: 'conv1',
    ResBottleneckBlock: 'f.a.0',
    InvertedResidual: 'block.0.0',
}


class ShiftedConv2d(nn.Conv2d):
    """A convolution that first takes some channels from other frames.

    It keeps the weights of a plain convolution and their names, so
    checkpoints of images and of videos load into each other.

    Args:
        conv (nn.Conv2d): The plain convolution.
        num_segments (int): Frames T of a clip.
        shift_div (int): One of so many channels comes from the next frame,
            and one from the frame before.

    Shape: (N * T, C, H, W), the frames of a clip in their order.
    """

    def __init__(self, conv: nn.Conv2d, num_segments: int,
                 shift_div: int) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode)
        self.weight, self.bias = conv.weight, conv.bias
        self.num_segments = num_segments
        self.shift_div = shift_div

    def forward(self, x: Tensor) -> Tensor:
        """Shift by MMAction2's operator, then convolve."""
        if torch.onnx.is_in_onnx_export():
            x = _shift_in_few_nodes(x, self.num_segments, self.shift_div)
            return super().forward(x)
        # It views the features, which channels-last memory does not allow.
        x = TemporalShift.shift(x.contiguous(), self.num_segments,
                                self.shift_div)
        return super().forward(x)

    def extra_repr(self) -> str:
        """Show the shift in the printed model."""
        return (f'{super().extra_repr()}, num_segments={self.num_segments}, '
                f'shift_div={self.shift_div}')


def _shift_in_few_nodes(x: Tensor, num_segments: int,
                        shift_div: int) -> Tensor:
    """The same shift; exporters write MMAction2's as many more nodes, since
    it asks for sizes that are always the same."""
    channels, height, width = (int(size) for size in x.shape[1:])
    fold = channels // shift_div
    # [N * T, C, H, W] -> [N, T, C, H, W]
    x = x.reshape(-1, num_segments, channels, height, width)
    before, after, others = x.split([fold, fold, channels - 2 * fold], 2)
    blank = before[:, :1] * 0
    shifted = torch.cat([
        torch.cat([before[:, 1:], blank], 1),
        torch.cat([blank, after[:, :-1]], 1), others
    ], 2)
    return shifted.reshape(-1, channels, height, width)


def insert_shift(trunk: StagedTrunk,
                 num_segments: int,
                 shift_div: int = 8) -> List[str]:
    """Shift in every residual block of a trunk's stages, in place.

    As in TSM (arXiv 1811.08383), the shift stands in the residual branch, so
    that the skip connection keeps each frame's own features. Blocks without
    a skip connection are left alone, and so is the stem. For the numbers see
    :class:`ShiftedConv2d`.

    Returns:
        list[str]: Names of the convolutions that shift now.

    Raises:
        ValueError: If a number is out of range, the feature branch has no
            block of a known kind, or a convolution is not PyTorch's own.
    """
    for name, value in (('num_segments', num_segments), ('shift_div',
                                                         shift_div)):
        if not isinstance(value, int) or value < 2:
            raise ValueError(f'{name} must be a whole number of at least 2, '
                             f'got {value!r}')
    shifted = []
    for name, block in list(trunk.stages.named_modules()):
        path = FIRST_CONVS.get(type(block))
        if path is None or getattr(block, 'use_res_connect', True) is False:
            continue
        owner, _, last = path.rpartition('.')
        parent = block.get_submodule(owner)
        conv = getattr(parent, last)
        if not is_unmodified(conv, nn.Conv2d):
            raise ValueError(
                f'the shift takes the place of plain convolutions, got '
                f'{type(conv).__name__} with weights or hooks of its own at '
                f'stages.{name}.{path}: insert the shift first')
        setattr(parent, last, ShiftedConv2d(conv, num_segments, shift_div))
        shifted.append(f'stages.{name}.{path}')
    trunk.frames_per_clip = num_segments
    if not shifted:
        kinds = ', '.join(kind.__name__ for kind in FIRST_CONVS)
        raise ValueError(f'the feature branch has no residual block to shift '
                         f'in: known kinds are {kinds}')
    return shifted
