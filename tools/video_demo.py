# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Say what happens in video files, and where each of them left."""
import argparse
import warnings
from typing import Any, Callable, Dict, List, Sequence

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.engine import InputError, cli
from mmdynperceiver.engine.checkpoints import load_whole, read_weights
from mmdynperceiver.engine.file_predictions import (
    BrokenInputError, Files, add_prediction_options, check_options,
    names_of_classes, predict_files, print_predictions, set_policy)
from mmdynperceiver.image_files import find_files, list_files
from mmdynperceiver.kinds import one_line

# What to look for in folders.
ENDINGS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Classify video files: the best classes, the exit at '
        'which each video left, how sure, and what it cost.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        'videos', nargs='+', help='video files, or folders with videos')
    add_prediction_options(parser)
    return parser.parse_args()


def build_inferencer(args: argparse.Namespace) -> Any:
    """MMAction2's inferencer with the checkpoint and the policy."""
    from mmaction.apis import ActionRecogInferencer
    weights = read_weights(args.checkpoint)
    with cli.input_errors(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        inferencer = ActionRecogInferencer(
            args.config, args.checkpoint, device=args.device)
    model = inferencer.model
    # The host's loading goes on with random values where names do not fit.
    load_whole(model, weights, args.checkpoint)
    if not hasattr(model, 'make_policy'):
        raise InputError(f'the config must be one of an early-exit '
                         f'recognizer, got {type(model).__name__}')
    set_policy(model, args)
    return inferencer


def build_predict(inferencer: Any) -> Callable[[str], Any]:
    """Run the inferencer on a file that can be decoded."""
    from mmdynperceiver.recognition.datasets import video_fault

    def predict(path: str) -> Any:
        fault = video_fault(path)
        if fault is not None:
            raise BrokenInputError(f'cannot read video {path!r}: {fault}')
        try:
            batch = next(iter(inferencer.preprocess([path], batch_size=1)))
        except Exception as error:  # decoders raise whatever they like
            raise BrokenInputError(f'cannot read video {path!r}: '
                                   f'{one_line(error)}') from error
        sample, = inferencer.forward(batch)
        return sample

    return predict


def list_videos(folder: str) -> List[str]:
    """The videos in a folder and below it."""
    found = list_files(folder, ENDINGS)
    if not found:
        raise FileNotFoundError(f'there is no video in {folder!r} or below it '
                                f'(looked for {", ".join(ENDINGS)})')
    return found


def print_results(results: Sequence[Dict[str, Any]]) -> None:
    """Print a table."""
    print_predictions('video', results)


def main() -> None:
    """Check what is given, then classify one video after the other."""
    args = parse_args()
    check_options(args)
    files = Files('video', *find_files(args.videos, list_videos))
    inferencer = build_inferencer(args)
    names = names_of_classes(args, inferencer.model.cls_head.num_classes)
    predict_files(files, args, build_predict(inferencer), names)


if __name__ == '__main__':
    cli.run_tool(main)
