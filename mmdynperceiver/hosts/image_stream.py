# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The images that a benchmark measures with."""
from typing import Any, Iterator, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from .build import LabelledData, iter_batches

__all__ = ['Stream', 'data_stream', 'random_stream', 'sample_shape']


class Stream(NamedTuple):
    """Normalised images (N, 3, H, W), and their classes if they are real.

    Of a video network, videos (N, M, 3, H, W).
    """

    images: Tensor
    labels: Optional[Tensor] = None


def sample_shape(data: LabelledData, model: Any) -> Sequence[int]:
    """The shape (3, H, W) of the first image, or (M, 3, H, W) of the first
    video, as the model gets it."""
    return tuple(next(_prepared(data.select([0]), model)).shape[1:])


@torch.no_grad()
def _prepared(data: LabelledData, model: Any) -> Iterator[Tensor]:
    """Each sample as the model gets it, a batch of one."""
    for batch in iter_batches(data, dict(batch_size=1), 0):
        yield model.data_preprocessor(batch)['inputs']


def random_stream(count: int, shape: Sequence[int], device: str) -> Stream:
    """Normalised noise: ``count`` images or videos of a shape, on a device."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, *shape, generator=generator)
    return Stream(images.to(device))


def data_stream(data: LabelledData, model: Any, wanted: int,
                fewest: int) -> Stream:
    """Images spread over a data set, on the model's device.

    They are ``wanted`` if there are so many, and at least ``fewest``.

    Raises:
        InputError: If there are too few, or their sizes differ.
    """
    total = len(data.labels)
    if total < fewest:
        raise InputError(f'there are only {total} test images, and '
                         f'--batch-size is {fewest}')
    count = min(wanted, total)
    # The data set is often sorted by class.
    few = data.select([i * total // count for i in range(count)])
    images = list(_prepared(few, model))
    shapes = {
        tuple(image.shape[1:]): path
        for image, path in zip(images, few.paths)
    }
    if len(shapes) > 1:
        (one, first), (other, second) = list(shapes.items())[:2]
        raise InputError(
            f'test images that run in one batch must have one size, and '
            f'{first!r} has {one} and {second!r} has {other}: resize and crop '
            f'them in the test pipeline')
    labels = torch.tensor(few.labels, device=images[0].device)
    return Stream(torch.cat(images), labels)
