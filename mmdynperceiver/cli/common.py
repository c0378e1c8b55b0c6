# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the command-line tools share: options, checks, one-line errors."""
import argparse
import os
import os.path as osp
import sys
import tempfile
from typing import Any, Callable, Optional, Sequence

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ..errors import InputError, disk_error, input_errors, one_line
from .cfg_options import CfgOptions
from .console import ignore_routine_warnings
from .tool_runner import tool_runner
from .unread_options import unread_options

__all__ = [
    'add_common_options', 'add_policy_options', 'build_runner',
    'check_writable_file', 'check_writable_folder', 'is_verbose',
    'load_config', 'run_tool', 'start_processes'
]

# Set to show the whole traceback of an error.
TRACEBACK_VARIABLE = 'MMDYNPERCEIVER_TRACEBACK'
# Set to show the whole log on the console.
VERBOSE_VARIABLE = 'MMDYNPERCEIVER_VERBOSE'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that OpenMMLab's users know from every tool."""
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints; by default '
        "the config's, or work_dirs/<name of the config>")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='change the config, as key=value with dots in the key: '
        'data_root=/data/imagenet model.head.num_classes=10. A list is '
        'written key="[a,b]" or key=a,b, a dict key="dict(type=\'A\', b=1)"; '
        'data_root is set in all data sets')
    parser.add_argument(
        '--verbose',
        action='store_true',
        help=f'show the whole log on the console, which otherwise is in the '
        f'log file of the work folder (or set {VERBOSE_VARIABLE}=1)')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what starts the processes of a distributed run')
    # torch.distributed.launch passes one spelling or the other.
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS)
    parser.epilog = (f'Errors of use are one line; set {TRACEBACK_VARIABLE}=1 '
                     f'to see where they come from.')


def add_policy_options(parser: argparse.ArgumentParser) -> Any:
    """Add the options of where samples leave.

    Returns:
        _MutuallyExclusiveGroup: Of the options, for one more.
    """
    policy = parser.add_mutually_exclusive_group()
    policy.add_argument(
        '--thresholds',
        nargs='+',
        type=float,
        help='smallest confidence (softmax probability) to leave with, one '
        'number for each exit but the last; by default those of the config, '
        'else those of the checkpoint, else none')
    policy.add_argument(
        '--thresholds-file',
        help='JSON file of an operating point, as tools/calibrate.py writes '
        'it: the thresholds, and the criterion and temperatures that they '
        'are made for; of a sweep, FILE:12 is its point 12')
    return policy


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the common options.

    Args:
        args (Namespace): With ``config`` and the common options.

    Raises:
        InputError: If the config cannot be read or the options do not fit.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not is_verbose(args):
        ignore_routine_warnings()
    with input_errors(where=f'cannot read the config {args.config!r}: '):
        config = Config.fromfile(args.config)
    with input_errors():
        old_root = config.get('data_root')
        options = dict(args.cfg_options or {})
        config.merge_from_dict(_replacing_what_is_no_dict(config, options))
    for line in unread_options(config, options):
        print(f'warning: {line}', flush=True)
    if 'data_root' in options:
        for name in LOADERS:
            _replace_root(config.get(name), old_root, options['data_root'])
        for name in EVALUATORS:
            _move_files(config.get(name), old_root, options['data_root'])
    for loader in filter(None, map(config.get, LOADERS)):
        # Keep workers from epoch to epoch; PyTorch refuses to keep none.
        if not loader.get('num_workers', 0):
            loader['persistent_workers'] = False
        loader.setdefault('persistent_workers', True)
        if not torch.cuda.is_available():
            loader['pin_memory'] = False
    config.launcher = args.launcher
    # Precedence: command line, config, name of the config.
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        config.work_dir = osp.join('work_dirs', name)
    return config


def _replacing_what_is_no_dict(config: Config, options: dict) -> dict:
    """Let a dict take the place of a value such as None.

    mmengine merges a dict into a dict, and refuses to merge it into anything
    else unless it is told to replace that.
    """
    result = dict(options)
    for key, value in options.items():
        *parents, name = key.split('.')
        node: Any = config
        for part in parents:
            node = node.get(part) if isinstance(node, (Config, dict)) else None
        if isinstance(value, dict) and isinstance(node, (Config, dict)) and \
                name in node and not isinstance(node[name], dict):
            result[key] = dict(value, _delete_=True)
    return result


def is_verbose(args: argparse.Namespace) -> bool:
    """Whether the console is to show the whole log."""
    return getattr(args, 'verbose', False) or bool(
        os.environ.get(VERBOSE_VARIABLE))


def _replace_root(node: Any, old: Optional[str], new: str) -> None:
    """Set ``data_root`` wherever it is the old one, at any depth."""
    if isinstance(node, dict):
        if node.get('data_root', old) == old and 'data_root' in node:
            node['data_root'] = new
        for child in node.values():
            _replace_root(child, old, new)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _replace_root(child, old, new)


def _move_files(evaluator: Any, old: Optional[str], new: str) -> None:
    """Look for an evaluator's annotation files in the new folder."""
    for entry in evaluator if isinstance(evaluator, list) else [evaluator]:
        path = (entry or {}).get('ann_file')
        if old and path and path.startswith(old):
            entry['ann_file'] = osp.join(new, path[len(old):].lstrip('/'))


def check_writable_folder(path: str) -> None:
    """Make a folder and try to write into it.

    Args:
        path (str): The folder.

    Raises:
        InputError: If that fails.
    """
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f'cannot write into the folder {path!r}: '
                         f'{error.strerror or error}') from error


def check_writable_file(path: str, endings: Sequence[str]) -> None:
    """Check an output file before the work of which it is the result.

    Args:
        path (str): The file.
        endings (Sequence[str]): File name endings of which it must have one.

    Raises:
        InputError: If it has another ending or its folder is not writable.
    """
    if not path.endswith(tuple(endings)):
        raise InputError(
            f'an output file must end with {" or ".join(endings)}, got '
            f'{path!r}')
    if osp.isdir(path):
        raise InputError(f'cannot write the file {path!r}: it is a folder')
    check_writable_folder(osp.dirname(path) or '.')


def start_processes(config: Config) -> None:
    """Join the other processes here if there is no GPU.

    mmengine wants a GPU for each process; on CPUs they talk by gloo.

    Args:
        config (Config): With ``launcher``; backend and model wrapper are
            set.

    Raises:
        InputError: If the processes cannot find each other.
    """
    if config.launcher == 'none' or torch.cuda.is_available():
        return
    if config.launcher != 'pytorch':
        raise InputError(f'without a GPU processes are started with '
                         f'--launcher pytorch, got {config.launcher!r}')
    config.merge_from_dict({'env_cfg.dist_cfg.backend': 'gloo'})
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=config.get('find_unused_parameters', False))
    wrapper.update(config.get('model_wrapper_cfg') or {})
    # mmengine would name the GPU of the local rank.
    config.model_wrapper_cfg = dict(wrapper, device_ids=None)
    with input_errors(KeyError, ValueError):
        torch.distributed.init_process_group(backend='gloo')


def build_runner(config: Config,
                 splits: Sequence[str] = (),
                 verbose: bool = False) -> Runner:
    """Build the runner that the config asks for; its scope decides the host.

    Args:
        config (Config): The config.
        splits (Sequence[str]): Data to check first: 'train', 'val', 'test'.
            Defaults to none.
        verbose (bool): Whether the console shows the whole log. Defaults to
            False.

    Raises:
        InputError: If the config does not fit the code or the data.
    """
    with input_errors():
        return tool_runner(config, splits, verbose)


def run_tool(main: Callable[[], None], stopped: str = 'stopped') -> None:
    """Run a tool; errors of use are one line and the exit status 1.

    Args:
        main (Callable): The tool.
        stopped (str): What to say after Ctrl-C, which ends with the status
            130. Defaults to 'stopped'.
    """
    try:
        main()
    except KeyboardInterrupt:
        print(f'\n{stopped}', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE) or not _is_of_use(error):
            raise
        sys.exit(f'error: {one_line(error)}')
    # Not after an error: the other processes may be waiting in a collective.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _is_of_use(error: Exception) -> bool:
    """Tell errors of use from faults of the program.

    What this package raises itself, where it has looked at something given,
    is meant for the user.
    """
    if isinstance(error, InputError) or disk_error(error) is not None:
        return True
    if not isinstance(error, (ValueError, TypeError, OSError)):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_globals.get('__name__', '') if trace else ''
    return name.partition('.')[0] == __name__.partition('.')[0]
