# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the command-line tools share: options, checks, one-line errors."""
import argparse
import os
import os.path as osp
from typing import Any, Callable, Mapping, Optional

import torch
from mmengine.config import Config
from torch import nn

from ..core import ExitPolicy
from ..core.operating_point import check_certificate
from ..errors import InputError, input_errors
from ..hosts.build import build_model
from ..hosts.device import on_gpu, use_device
from ..io.checkpoints import load_strict, read_weights
from ..io.fingerprints import weights_fingerprint
from ..progress import set_quiet
from .cfg_options import unread_options
from .console import ignore_routine_warnings
from .options import (add_common_options, add_device_option,
                      add_policy_options, add_quiet_option, add_threads_option,
                      check_positive, check_writable_file,
                      check_writable_folder, is_verbose, positive)
from .run import run_tool
from .tool_runner import build_runner

__all__ = [
    'add_common_options', 'add_device_option', 'add_policy_options',
    'add_quiet_option', 'add_threads_option', 'apply_run_options',
    'build_runner', 'check_positive', 'check_writable_file',
    'check_writable_folder', 'choose_policy', 'input_errors', 'is_verbose',
    'load_config', 'load_model', 'positive', 'run_tool', 'start_processes'
]

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')


def apply_run_options(args: argparse.Namespace) -> None:
    """Show progress or not, take so many threads, and the device.

    ``device``, if it is among the options, is then the one that is used.

    Raises:
        InputError: If the device cannot be used.
    """
    set_quiet(getattr(args, 'quiet', False))
    if getattr(args, 'threads', None) is not None:
        torch.set_num_threads(args.threads)
    if not hasattr(args, 'device'):
        return
    launcher = getattr(args, 'launcher', 'none')
    if launcher != 'none' and (args.device or 'cpu') != 'cpu':
        raise InputError(f'--launcher {launcher} gives each process a GPU of '
                         f'its own: leave out --device {args.device}')
    args.device = use_device(args.device)


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


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` and apply the common options.

    Raises:
        InputError: If the config cannot be read or the options do not fit.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    apply_run_options(args)
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
        if not on_gpu():
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


def load_model(
        config: Config,
        checkpoint: Optional[str],
        build: Callable[[Config], nn.Module] = build_model) -> nn.Module:
    """Build the early-exit model of a config, in eval mode.

    Args:
        config (Config): The whole config.
        checkpoint (str, optional): File whose weights must fit in full; None
            leaves the weights random.
        build (Callable): Builds the model; ``build_any_model`` takes one
            without exits, too. Defaults to ``build_model``.

    Raises:
        InputError: If config or checkpoint do not fit.
    """
    weights = read_weights(checkpoint) if checkpoint else None
    model = build(config).eval()
    if weights is not None and checkpoint is not None:
        load_strict(model, weights, checkpoint)
    return model


def start_processes(config: Config) -> None:
    """Join the other processes here if there is no GPU.

    mmengine wants a GPU for each process; on CPUs they talk by gloo.

    Args:
        config (Config): With ``launcher``; backend and model wrapper are
            set.

    Raises:
        InputError: If the processes cannot find each other.
    """
    if config.launcher == 'none' or on_gpu():
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
