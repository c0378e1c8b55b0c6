# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Say what happens in video files, and where each of them left."""
import argparse
import warnings
from functools import partial
from typing import Any, Callable

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.cli import common, file_predictions
from mmdynperceiver.datasets.image_files import VIDEOS, find_files
from mmdynperceiver.errors import InputError
from mmdynperceiver.io.checkpoints import load_strict, read_weights

# Prints results as a table; scripts take it from here.
print_results = partial(file_predictions.print_predictions, 'video')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    return file_predictions.prediction_parser('video').parse_args()


def build_inferencer(args: argparse.Namespace) -> Any:
    """MMAction2's inferencer with the checkpoint and the policy."""
    from mmaction.apis import ActionRecogInferencer
    weights = read_weights(args.checkpoint)
    with common.input_errors(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        inferencer = ActionRecogInferencer(
            args.config, args.checkpoint, device=args.device)
    model = inferencer.model
    # The host's loading goes on with random values where names do not fit.
    load_strict(model, weights, args.checkpoint)
    if not hasattr(model, 'make_policy'):
        raise InputError(f'the config must be one of an early-exit '
                         f'recognizer, got {type(model).__name__}')
    model.policy = common.choose_policy(args, model)
    return inferencer


def build_predict(inferencer: Any) -> Callable[[str], Any]:
    """Run the inferencer on a file that can be decoded."""
    from mmdynperceiver.recognition.datasets import video_fault

    def predict(path: str) -> Any:
        fault = video_fault(path)
        if fault is not None:
            raise file_predictions.BrokenInputError(
                f'cannot read video {path!r}: {fault}')
        with file_predictions.broken_input(f'cannot read video {path!r}'):
            batch = next(iter(inferencer.preprocess([path], batch_size=1)))
        # Such as one whose frames are too small for the network.
        with file_predictions.broken_input(f'cannot classify video {path!r}',
                                           ValueError):
            return inferencer.forward(batch)[0]

    return predict


def main() -> None:
    """Check what is given, then classify one video after the other."""
    args = parse_args()
    file_predictions.check_options(args)
    files = find_files(args.files, args.on_broken, VIDEOS)
    inferencer = build_inferencer(args)
    names = file_predictions.names_of_classes(
        args, inferencer.model.cls_head.num_classes)
    file_predictions.predict_files('video', files, args,
                                   build_predict(inferencer), names)


if __name__ == '__main__':
    common.run_tool(main)
