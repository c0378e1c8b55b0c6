# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a network takes for images, and what to do with anything else."""
from typing import Any

from torch import Tensor

from ..io.describe import describe, is_kind

__all__ = ['check_images']


def check_images(images: Tensor, min_size: int) -> None:
    """Refuse what is not a batch of floating-point images (B, 3, H, W), each
    of ``min_size`` pixels at least.

    Raises:
        TypeError: If it is not a floating-point tensor.
        ValueError: If the shape does not fit.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise TypeError(f'images must be a floating-point tensor of normalised'
                        f' pixels (B, 3, H, W), got {describe(images)}'
                        f'{_kind_advice(images)}')
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f'images must have the shape (B, 3, H, W), got '
                         f'{tuple(images.shape)}{_shape_advice(images)}')
    if min(images.shape[2:]) < min_size:
        raise ValueError(
            f'images must be at least {min_size} pixels high and wide (the '
            f'largest stride of the feature branch), got '
            f'{images.shape[2]}x{images.shape[3]}: resize or pad them')


def _kind_advice(images: Any) -> str:
    """How to make a tensor of normalised pixels of something else."""
    if isinstance(images, Tensor):
        return ': normalise the pixels as in training, such as ' \
               '(images.float() - mean) / std'
    if is_kind(images, 'array'):
        return ': torch.from_numpy(images).float() makes a tensor; ' \
               'normalise the pixels as in training, and put the channels ' \
               'before height and width'
    if is_kind(images, 'pillow'):
        return ': torchvision.transforms.functional.pil_to_tensor(image)' \
               '[None].float() makes a tensor of an RGB image; resize and ' \
               'normalise it as in training'
    if isinstance(images, (list, tuple)):
        return ': torch.stack(images) makes a batch of tensors (3, H, W) of ' \
               'one size'
    return ''


def _shape_advice(images: Tensor) -> str:
    """How to bring images into shape."""
    shape = tuple(images.shape)
    if len(shape) == 3 and shape[0] == 3:
        return ': images[None] makes a batch of one image'
    if len(shape) == 3 and shape[2] == 3:
        return ': images.permute(2, 0, 1)[None] makes a batch of one image'
    if len(shape) == 4 and shape[3] == 3:
        return ': images.permute(0, 3, 1, 2) puts the channels first'
    if len(shape) == 4 and shape[1] == 1:
        return ': images.expand(-1, 3, -1, -1) repeats grey images'
    if len(shape) == 4 and shape[1] == 4:
        return ': images[:, :3] leaves out the transparency'
    if len(shape) == 5:
        return ': images.flatten(0, 1) lays the frames of videos out as images'
    return ''
