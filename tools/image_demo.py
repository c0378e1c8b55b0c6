# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Say what is in image files, and where each of them left."""
import argparse
from typing import Any, Callable, Dict, List

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from torch import nn

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.cli import common, file_predictions
from mmdynperceiver.datasets.image_files import find_files
from mmdynperceiver.deploy.decoding import check_header, decode
from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts.build import model_of, test_transform

OTHER_TASKS = dict(
    mmaction='tools/video_demo.py classifies videos',
    mmdet="mmdet.apis.DetInferencer gives a detector's boxes, exits and MACs")


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = file_predictions.prediction_parser('image')
    common.add_common_options(parser)
    return parser.parse_args()


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


def build_predict(model: nn.Module, config: Config) -> Callable[[str], Any]:
    """Run the config's own test pipeline and the model on a file."""
    steps: List[Any] = test_transform(config)
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


def main() -> None:
    """Check what is given, then classify one image after the other."""
    args = parse_args()
    file_predictions.check_options(args)
    files = find_files(args.files, args.on_broken)
    config = common.load_config(args)
    scope = config.get('default_scope')
    if scope in OTHER_TASKS:
        raise InputError(f'the config must be one of an image classifier, got '
                         f'one of {scope}: {OTHER_TASKS[scope]}')
    model = common.load_model(config, args.checkpoint)
    model.policy = common.choose_policy(args, model, config.model)
    with common.input_errors():
        model.to(
            args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    names = file_predictions.names_of_classes(
        args,
        model.exit_parts()[1].num_classes)
    init_default_scope(scope or 'mmengine')
    file_predictions.predict_files('image', files, args,
                                   build_predict(model, config), names)


if __name__ == '__main__':
    common.run_tool(main)
