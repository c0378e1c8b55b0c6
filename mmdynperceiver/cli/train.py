# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Train a model; the config's default scope decides the host."""
import argparse

from ..errors import InputError
from ..hosts.build import check_data_folders
from ..hosts.device import on_gpu
from ..hosts.resume import CheckCheckpointHook
from ..io.checkpoints import read_weights
from . import common


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Train a model.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint; without a path, from the latest '
        'one in the work folder, or else from load_from')
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate from the batch size that the config '
        'is made for to the one at hand')
    parser.add_argument(
        '--no-validate',
        action='store_true',
        help='do not evaluate during training')
    common.add_device_option(parser)
    common.add_common_options(parser)
    return parser.parse_args()


def merge_args(config, args: argparse.Namespace) -> None:
    """Apply the options of training to the config."""
    if args.no_validate:
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        config.get('default_hooks', {}).get('checkpoint',
                                            {}).pop('save_best', None)
    if args.amp:
        if on_gpu():
            config.optim_wrapper.type = 'AmpOptimWrapper'
            config.optim_wrapper.setdefault('loss_scale', 'dynamic')
        else:
            config.optim_wrapper.type = 'BFloat16OptimWrapper'
    if args.resume == '':
        raise InputError('--resume needs the path of a checkpoint, or none')
    if args.resume == 'auto':
        # The runner looks for it, and else takes the config's load_from.
        config.resume = 'auto'
    elif args.resume is not None:
        config.resume, config.load_from = True, args.resume
    if args.auto_scale_lr:
        if not config.get('auto_scale_lr', {}).get('base_batch_size'):
            raise InputError('--auto-scale-lr needs '
                             'auto_scale_lr.base_batch_size in the config')
        config.auto_scale_lr.enable = True


def main() -> None:
    """Check what is given, then train."""
    args = parse_args()
    config = common.load_config(args)
    merge_args(config, args)
    common.check_writable_folder(config.work_dir)
    check_data_folders(config, ('train_dataloader', 'val_dataloader'))
    if config.get('resume') != 'auto' and config.get('load_from') and \
            '://' not in config.load_from:
        read_weights(config.load_from)
    common.start_processes(config)
    runner = common.build_runner(config, ('train', 'val'),
                                 common.is_verbose(args))
    if not any(isinstance(hook, CheckCheckpointHook) for hook in runner.hooks):
        runner.register_hook(CheckCheckpointHook())
    runner.train()
