# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the tools share that turn a checkpoint into a folder."""
import argparse
import os
from typing import Any, Dict, List, NamedTuple

from mmengine.config import Config
from torch import nn

from ..core import ExitPolicy
from ..datasets.class_names import choose_class_names
from ..io.checkpoint_file import read_checkpoint
from ..io.checksums import file_sha256
from . import common

__all__ = ['Source', 'add_folder_options', 'describe_source', 'load_source']


class Source(NamedTuple):
    """What a folder is made of: the model with its weights, where its samples
    leave, its classes, and the content of the checkpoint."""

    model: nn.Module
    policy: ExitPolicy
    classes: List[str]
    content: Dict[str, Any]


def add_folder_options(parser: argparse.ArgumentParser) -> None:
    """Add config, checkpoint and folder, policy, size and classes."""
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', help='folder to write; new or empty')
    common.add_policy_options(parser)
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images, where the test pipeline does not set it')
    parser.add_argument(
        '--classes',
        metavar='FILE',
        help='names of the classes, one a line (default: those in the '
        'checkpoint, else their numbers)')


def load_source(args: argparse.Namespace, config: Config) -> Source:
    """Load what the options name, if the folder can be written."""
    common.check_writable_folder(os.path.dirname(os.path.abspath(args.out)))
    model = common.load_model(config, args.checkpoint)
    content = read_checkpoint(os.path.expanduser(args.checkpoint))
    classes = choose_class_names(args.classes, content,
                                 model.exit_parts()[1].num_classes)
    policy = common.choose_policy(args, model, config.model)
    return Source(model, policy, classes, content)


def describe_source(args: argparse.Namespace) -> Dict[str, Any]:
    """Where the weights are from, for the folder."""
    return dict(
        config=os.path.basename(args.config),
        checkpoint=os.path.basename(args.checkpoint),
        checkpoint_sha256=file_sha256(os.path.expanduser(args.checkpoint)))
