# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Image files through the model of a config, as its own tests see them."""
from typing import Any, Callable, Dict, List

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from torch import nn

from ..deploy.decoding import check_header, decode
from ..errors import InputError
from ..hosts.build import model_of, test_transform
from . import common, file_predictions

__all__ = ['LoadPixels', 'OTHER_TASKS', 'build_predict', 'check_task']

OTHER_TASKS = dict(
    mmaction='tools/video_demo.py classifies videos',
    mmdet="mmdet.apis.DetInferencer gives a detector's boxes, exits and MACs")


class LoadPixels:
    """Load a file for a pipeline whose data set gives pixels.

    Args:
        reverse (bool): Whether the data preprocessor reverses the channels,
            so that it gets BGR to make RGB of.
    """

    def __init__(self, reverse: bool) -> None:
        self.reverse = reverse

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Add the pixels to what is known of the image."""
        pixels = decode(results['img_path'], 'pillow')
        image = pixels[..., ::-1].copy() if self.reverse else pixels
        size = pixels.shape[:2]
        return dict(results, img=image, img_shape=size, ori_shape=size)


def check_task(config: Config) -> None:
    """Refuse a config of another task than classifying images.

    Raises:
        InputError: Saying what does that task.
    """
    scope = config.get('default_scope')
    if scope in OTHER_TASKS:
        raise InputError(f'the config must be one of an image classifier, got '
                         f'one of {scope}: {OTHER_TASKS[scope]}')


def build_predict(model: nn.Module, config: Config) -> Callable[[str], Any]:
    """Run the config's own test pipeline and the model on a file."""
    steps: List[Any] = test_transform(config)
    init_default_scope(config.get('default_scope') or 'mmengine')
    if not any('LoadImageFromFile' in str(step['type']) for step in steps):
        # The data are no files, such as CIFAR's.
        settings = model_of(config).get('data_preprocessor') or {}
        steps.insert(0, LoadPixels(settings.get('to_rgb', False)))
    with common.input_errors():
        pipeline = Compose(steps)

    def predict(path: str) -> Any:
        with file_predictions.broken_input(f'cannot read the image {path!r}'):
            check_header(path)
            sample = pipeline(dict(img_path=path))
        # Such as one that is too small for the network.
        doing = f'cannot classify the image {path!r}'
        with file_predictions.broken_input(doing, ValueError), torch.no_grad():
            return model.test_step(pseudo_collate([sample]))[0]

    return predict
