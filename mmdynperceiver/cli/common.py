# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the command-line tools share: options, checks, one-line errors."""
import argparse
import os
import os.path as osp
import tempfile
from typing import Any, Mapping, Optional, Sequence

import torch
from mmengine.config import Config
from torch import nn

from ..core import ExitPolicy
from ..core.operating_point import check_certificate
from ..errors import InputError, input_errors
from ..hosts.build import build_model
from ..io.checkpoints import load_strict, read_weights
from ..io.fingerprints import weights_fingerprint
from ..progress import set_quiet
from .cfg_options import CfgOptions, unread_options
from .console import ignore_routine_warnings
from .run import TRACEBACK_VARIABLE, run_tool
from .tool_runner import build_runner

__all__ = [
    'add_common_options', 'add_device_option', 'add_policy_options',
    'add_quiet_option', 'add_threads_option', 'apply_output_and_threads',
    'build_runner', 'check_positive', 'check_writable_file',
    'check_writable_folder', 'choose_policy', 'input_errors', 'is_verbose',
    'load_config', 'load_model', 'positive', 'run_tool', 'start_processes'
]

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
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        '--verbose',
        action='store_true',
        help=f'show the whole log on the console, which otherwise is in the '
        f'log file of the work folder (or set {VERBOSE_VARIABLE}=1)')
    add_quiet_option(output)
    add_threads_option(parser)
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


def add_quiet_option(parser: Any) -> None:
    """Add the option to show results and warnings only."""
    parser.add_argument(
        '--quiet',
        action='store_true',
        help='show results and warnings, but no progress')


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that :func:`apply_output_and_threads` reads."""
    parser.add_argument(
        '--threads',
        type=positive,
        help="threads on the CPU, in the runtimes too (default: PyTorch's "
        'choice)')


def add_device_option(parser: argparse.ArgumentParser,
                      default: Optional[str] = None) -> None:
    """Add the option of where the network runs."""
    parser.add_argument(
        '--device',
        default=default,
        help='where the network runs, cpu or cuda:0 for instance (default: a '
        'GPU if there is one)')


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, got {value}')
    return value


def apply_output_and_threads(args: argparse.Namespace) -> None:
    """Show progress or not, and take so many threads."""
    set_quiet(getattr(args, 'quiet', False))
    if getattr(args, 'threads', None) is not None:
        torch.set_num_threads(args.threads)


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of where samples leave; see :func:`choose_policy`."""
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
    policy.add_argument(
        '--exit', type=int, help='the one exit at which all leave, from 0')


def choose_policy(args: argparse.Namespace,
                  model: nn.Module,
                  settings: Optional[Mapping[str, Any]] = None) -> ExitPolicy:
    """The policy of the options, else of the config, else of the checkpoint.

    Thresholds alone keep the criterion and the temperatures that would be in
    force without them.

    Args:
        args (Namespace): With ``thresholds``, ``thresholds_file`` and perhaps
            ``exit``.
        model (nn.Module): An early-exit model with its weights.
        settings (Mapping, optional): The model's config, if it was built
            without its policy. Defaults to None.

    Raises:
        InputError: If the policy does not fit the model.
    """
    if not hasattr(model, 'make_policy'):
        raise InputError(f'thresholds are for early-exit models, got '
                         f'{type(model).__name__}')
    given, fixed = args.thresholds_file, getattr(args, 'exit', None)
    if settings and given is fixed is None:
        given = settings.get('thresholds')
        if args.thresholds is None:
            fixed = settings.get('exit_index', settings.get('exit'))
    with input_errors():
        policy = model.policy if given is fixed is None else \
            model.make_policy(given, fixed)
        if args.thresholds is not None:
            policy = ExitPolicy(policy.num_exits, args.thresholds,
                                **policy.settings)
    certified_for(policy, args.checkpoint)
    return policy


def certified_for(policy: ExitPolicy, checkpoint: Optional[str]) -> None:
    """Refuse a certificate of other weights than those in a file."""
    if policy.certificate and checkpoint and '://' not in checkpoint:
        weights = weights_fingerprint(read_weights(checkpoint))
        check_certificate(policy.certificate, weights=weights)


def check_positive(parser: argparse.ArgumentParser, args: argparse.Namespace,
                   *names: str) -> None:
    """Refuse numbers, or lists of them, below 1."""
    for name in names:
        values = getattr(args, name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and value < 1:
                parser.error(f'--{name.replace("_", "-")} must be at least '
                             f'1, got {value}')


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` and apply the common options.

    Raises:
        InputError: If the config cannot be read or the options do not fit.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    apply_output_and_threads(args)
    if not is_verbose(args):
        ignore_routine_warnings()
    with input_errors(where=f'cannot read the config {args.config!r}: '):
        config = Config.fromfile(args.config)
    options = dict(args.cfg_options or {})
    _merge(config, options)
    for line in unread_options(config, options):
        print(f'warning: {line}', flush=True)
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


def _merge(config: Config, options: dict) -> None:
    """Merge options; a dict may replace None, and ``data_root`` is for all."""
    old_root, merged = config.get('data_root'), dict(options)
    for key, value in options.items():
        *parents, name = key.split('.')
        node: Any = config
        for part in parents:
            node = node.get(part) if isinstance(node, (Config, dict)) else None
        # mmengine merges a dict into a dict only, unless it is told so.
        if isinstance(value, dict) and isinstance(node, (Config, dict)) and \
                name in node and not isinstance(node[name], dict):
            merged[key] = dict(value, _delete_=True)
    with input_errors():
        config.merge_from_dict(merged)
    if 'data_root' not in options:
        return
    root = options['data_root']
    for loader in LOADERS:
        _replace_root(config.get(loader), old_root, root)
    for name in EVALUATORS:
        entries = config.get(name)
        for entry in entries if isinstance(entries, list) else [entries]:
            path = (entry or {}).get('ann_file')
            if old_root and path and path.startswith(old_root):
                entry['ann_file'] = osp.join(root,
                                             path[len(old_root):].lstrip('/'))


def _replace_root(node: Any, old: Optional[str], new: str) -> None:
    """Set ``data_root`` wherever it is the old one, at any depth."""
    if isinstance(node, dict):
        if 'data_root' in node and node['data_root'] == old:
            node['data_root'] = new
        node = list(node.values())
    for child in node if isinstance(node, (list, tuple)) else ():
        _replace_root(child, old, new)


def is_verbose(args: argparse.Namespace) -> bool:
    """Whether the console is to show the whole log."""
    return bool(
        getattr(args, 'verbose', False) or os.environ.get(VERBOSE_VARIABLE))


def load_model(config: Config, checkpoint: Optional[str]) -> nn.Module:
    """Build the early-exit model of a config, in eval mode.

    Args:
        config (Config): The whole config.
        checkpoint (str, optional): File whose weights must fit in full; None
            leaves the weights random.

    Raises:
        InputError: If config or checkpoint do not fit.
    """
    weights = read_weights(checkpoint) if checkpoint else None
    model = build_model(config)
    if weights is not None and checkpoint is not None:
        load_strict(model, weights, checkpoint)
    return model


def check_writable_folder(path: str) -> None:
    """Make a folder and try to write into it.

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


def check_writable_file(path: Optional[str], endings: Sequence[str]) -> None:
    """Check an output file, if any, before the work of which it is the result.

    Raises:
        InputError: If it has none of the endings or its folder is not
            writable.
    """
    if path is None:
        return
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
