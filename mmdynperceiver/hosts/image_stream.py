# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The images that a benchmark measures with."""
from typing import NamedTuple, Optional, Sequence

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..datasets.class_names import check_data_classes
from ..errors import InputError
from .build import build_data, check_data_folders, iter_batches, split_config

__all__ = ['Stream', 'data_stream', 'random_stream', 'sample_shape']


class Stream(NamedTuple):
    """Normalised images (N, 3, H, W), and their classes if they are real.

    Of a video network, videos (N, M, 3, H, W).
    """

    images: Tensor
    labels: Optional[Tensor] = None


def sample_shape(config: Config, model: nn.Module,
                 size: Optional[Sequence[int]]) -> Sequence[int]:
    """The shape (3, H, W) of one image, or (M, 3, H, W) of one video.

    Height and width are ``size``, or else those of the first test image.

    Raises:
        InputError: If there are no test data.
    """
    if size is not None:
        frames = getattr(model.backbone, 'num_segments', None)
        lead = (3, ) if frames is None else (frames, 3)
        return (*lead, *size)
    check_data_folders(config, ('test_dataloader', ))
    data = build_data(config, split_config(config, 'test'))
    return tuple(data.dataset[0]['inputs'].shape)


def random_stream(count: int, shape: Sequence[int], device: str) -> Stream:
    """Normalised noise: ``count`` images or videos of a shape, on a device."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, *shape, generator=generator)
    return Stream(images.to(device))


def data_stream(config: Config, model: nn.Module, wanted: int,
                fewest: int) -> Stream:
    """Test images, spread over the data set, on the model's device.

    They are ``wanted`` if there are so many, and at least ``fewest``.

    Raises:
        InputError: If there are no data or too few, or their sizes differ.
    """
    check_data_folders(config, ('test_dataloader', ))
    data = build_data(config, split_config(config, 'test'))
    check_data_classes(
        'test images',
        data.dataset,
        model.exit_parts()[1].num_classes,
        num_labels=max(data.labels, default=-1) + 1)
    total = len(data.labels)
    if total < fewest:
        raise InputError(f'there are only {total} test images, and '
                         f'--batch-size is {fewest}')
    count = min(wanted, total)
    # The data set is often sorted by class.
    few = data.select([i * total // count for i in range(count)])
    with torch.no_grad():
        images = [
            model.data_preprocessor(batch)['inputs']
            for batch in iter_batches(few, dict(batch_size=1), 0)
        ]
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
