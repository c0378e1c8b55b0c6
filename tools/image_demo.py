# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Say what is in image files, and where each of them left.

``tools/predict.py`` does it for saved and exported folders, too.
"""
import argparse

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.cli import common, file_predictions
from mmdynperceiver.cli.checkpoint_images import (OTHER_TASKS, LoadPixels,
                                                  build_predict, check_task)
from mmdynperceiver.datasets.image_files import find_files

__all__ = [
    'LoadPixels', 'OTHER_TASKS', 'build_predict', 'common', 'main',
    'parse_args'
]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = file_predictions.prediction_parser('image')
    common.add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    """Check what is given, then classify one image after the other."""
    args = parse_args()
    file_predictions.check_options(args)
    files = find_files(args.files, args.on_broken)
    config = common.load_config(args)
    check_task(config)
    model = common.load_model(config, args.checkpoint)
    model.policy = common.choose_policy(args, model, config.model)
    with common.input_errors():
        model.to(args.device)
    names = file_predictions.names_of_classes(
        args,
        model.exit_parts()[1].num_classes)
    file_predictions.predict_files('image', files, args,
                                   build_predict(model, config), names)


if __name__ == '__main__':
    common.run_tool(main)
