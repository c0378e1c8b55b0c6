# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Evaluate a checkpoint: each exit, and leaving early, in one pass."""
import argparse
import os

from mmengine.runner import load_checkpoint

from ..calibration.goals import choose_point
from ..core import OperatingPoint
from ..core.accelerate.compiled import MODES
from ..core.policy import check_thresholds
from ..datasets.class_names import config_num_classes
from ..errors import InputError
from ..hosts.build import check_data_folders
from ..hosts.exit_head import check_weights_classes
from ..hosts.hooks import EvaluateAllExitsHook, InferenceModeHook
from ..hosts.wrappers import unwrap_model
from ..io.atomic import write_json
from ..io.checkpoints import load_strict, read_weights
from . import common
from .tables import print_exits


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Evaluate a checkpoint: each exit, and leaving early '
        'under thresholds, in one pass.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    common.add_policy_options(parser)
    parser.add_argument(
        '--budget-macs',
        help='of a sweep in --thresholds-file, take the most accurate point '
        'within these mean MACs: 7.5M, 1.2G, or a share of the last exit '
        'such as 50%%')
    parser.add_argument(
        '--really-stop',
        action='store_true',
        help='compute nothing behind the exit where a sample leaves; the '
        'other exits are then not evaluated')
    parser.add_argument(
        '--mode',
        choices=MODES,
        default='eager',
        help='how the model runs: as it is, prepared by '
        'prepare_for_inference, or compiled besides, which takes minutes '
        'and pays on large data only, or captured as CUDA graphs besides, on '
        'a GPU (default: eager)')
    parser.add_argument('--out', help='write the results to this JSON file')
    parser.add_argument(
        '--dump', help='write all predictions to this pickle file')
    common.add_device_option(parser)
    common.add_common_options(parser)
    return parser.parse_args()


def merge_args(config, args: argparse.Namespace) -> None:
    """Apply the options of evaluation to the config."""
    config.load_from = args.checkpoint
    config.resume = False
    if args.budget_macs is not None:
        if args.thresholds_file is None:
            raise InputError('--budget-macs chooses from a sweep: name its '
                             'file by --thresholds-file')
        args.thresholds_file = choose_point(args.thresholds_file,
                                            args.budget_macs)
    given = dict(thresholds=args.thresholds_file, exit_index=args.exit)
    if args.thresholds_file is not None:
        # The model reads it again, and checks that it is made for the model.
        OperatingPoint.load(args.thresholds_file)
    if args.thresholds is not None:
        # What they are compared with is that of the config or checkpoint.
        given = {}
        check_thresholds(args.thresholds, len(args.thresholds) + 1)
    elif args.thresholds_file is args.exit is None:
        return
    for key in ('exit', 'exit_index'):
        config.model.pop(key, None)
    config.model.update(given)


def choose_hooks(runner, really_stop: bool) -> None:
    """Evaluate all exits, or really stop, whatever the config says."""
    hooks = [h for h in runner.hooks if isinstance(h, EvaluateAllExitsHook)]
    has_exits = hasattr(unwrap_model(runner.model), 'evaluate_all_exits')
    if has_exits and not hooks:
        hooks = [EvaluateAllExitsHook()]
        runner.register_hook(hooks[0])
    for hook in hooks:
        hook.test = not really_stop


def policy_settings(model) -> dict:
    """Thresholds and what they mean, None where there is no policy."""
    if not hasattr(model, 'policy'):
        return dict.fromkeys(('thresholds', 'criterion', 'temperature'))
    return dict(thresholds=model.policy.thresholds, **model.policy.settings)


def main() -> None:
    """Check what is given, then evaluate."""
    args = parse_args()
    if args.mode != 'eager' and args.launcher != 'none':
        raise InputError(f'--mode {args.mode} runs in one process, got '
                         f'--launcher {args.launcher}')
    config = common.load_config(args)
    with common.input_errors():
        merge_args(config, args)
    weights = None
    if '://' not in args.checkpoint:
        weights = read_weights(args.checkpoint)
        check_weights_classes(weights, config_num_classes(config))
    common.check_writable_folder(config.work_dir)
    common.check_writable_file(args.out, ('.json', ))
    common.check_writable_file(args.dump, ('.pkl', '.pickle'))
    check_data_folders(config, ('test_dataloader', ))
    common.start_processes(config)
    runner = common.build_runner(config, ('test', ), common.is_verbose(args))
    model = unwrap_model(runner.model)
    if weights is not None:
        load_strict(model, weights, args.checkpoint)
    if args.thresholds is not None:
        if weights is None:
            load_checkpoint(model, args.checkpoint, 'cpu')
        model.policy = common.choose_policy(args, model)
    elif weights is not None and hasattr(model, 'policy'):
        common.certified_for(model.policy, args.checkpoint)
    choose_hooks(runner, args.really_stop)
    if args.mode != 'eager':
        runner.register_hook(InferenceModeHook(args.mode))
    if args.dump:
        from mmengine.evaluator import DumpResults
        runner.test_evaluator.metrics.append(DumpResults(args.dump))
    metrics = runner.test()
    if runner.rank != 0:
        return
    settings = policy_settings(model)
    print_exits(metrics, settings['thresholds'])
    if args.out:
        write_json(
            args.out,
            dict(
                config=os.path.basename(args.config),
                checkpoint=os.path.basename(args.checkpoint),
                **settings,
                metrics=metrics))
