# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The networks that ``tools/benchmark.py`` times, and their entries."""
import argparse
import os
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
import torchvision
from mmengine.config import Config
from torch import Tensor, nn

from ..benchmark import deployed, detectors, entries
from ..benchmark.entries import BenchmarkEntry
from ..benchmark.modes import (DEPLOYED_MODES, ONNX_MODES, fitting_modes,
                               format_of)
from ..core import ExitPolicy
from ..core.accelerate.compiled import in_mode
from ..core.operating_point import describe_model
from ..errors import InputError, input_errors
from ..hosts.build import build_any_model
from ..hosts.model_index import metafile_top1, torchvision_top1
from . import common
from .benchmark_options import TORCHVISION

__all__ = ['Network', 'enter_all', 'load_network', 'load_other']

# A file of Python and the name of a function in it.
FUNCTION = re.compile(r'(.+\.py):(\w+)')


class Network(NamedTuple):
    """A model of a config; without a config one of torchvision's, or what a
    function in a file returns."""

    name: str
    model: Any
    config: Optional[str] = None

    @property
    def detects(self) -> bool:
        """Whether it is one of MMDetection's detectors."""
        return hasattr(self.model, 'with_bbox')

    @property
    def num_exits(self) -> int:
        """1 without exits."""
        return self.model.exit_parts()[1].num_exits if hasattr(
            self.model, 'exit_parts') else 1

    def top1(self) -> Sequence[float]:
        """Accuracies that others measured, if there are any."""
        if self.config:
            return metafile_top1(self.config)
        known = self.name.startswith(TORCHVISION)
        return torchvision_top1(self.name[len(TORCHVISION):]) if known else ()

    def describe(self) -> Dict[str, int]:
        """What tells its latency tables from another's."""
        if hasattr(self.model, 'exit_parts'):
            return describe_model(*self.model.exit_parts())
        return dict(
            num_exits=1,
            parameters=sum(p.numel() for p in self.model.parameters()))


def load_network(args: argparse.Namespace, path: str,
                 checkpoint: Optional[str], config: Config) -> Network:
    """Build the model of a config, with the checkpoint's weights if any.

    Raises:
        InputError: If it has no exits and is no detector, or something does
            not fit.
    """
    model: Any = common.load_model(config, checkpoint, build_any_model)
    name = os.path.splitext(os.path.basename(path))[0]
    if not (hasattr(model, 'evaluate_all_exits')
            or Network(name, model).detects):
        raise InputError(f'{path!r} must be of an early-exit model or a '
                         f'detector, got {type(model).__name__}')
    with input_errors():
        model = model.to(args.device)
    return Network(name, model, path)


def load_other(args: argparse.Namespace, first: Network, path: str, *rest:
               str) -> Network:
    """Build what --against names, of the same kind as the first network."""
    found = FUNCTION.fullmatch(path)
    if len(rest) > 1 or (rest and (found or path.startswith(TORCHVISION))):
        raise InputError(f'--against takes a config and perhaps its '
                         f'checkpoint, one network of torchvision, or a '
                         f'function as FILE.py:NAME, got '
                         f'{" ".join((path, *rest))}')
    if path.startswith(TORCHVISION):
        with input_errors():
            net = torchvision.models.get_model(path[len(TORCHVISION):])
        other = Network(path, net.to(args.device))
    elif found:
        other = Network(found[2], call_function(*found.groups()))
        other.model.to(args.device)
    else:
        # The options given are for the first config.
        plain = argparse.Namespace(**vars(args))
        plain.config, plain.cfg_options = path, None
        other = load_network(args, path, rest[0] if rest else None,
                             common.load_config(plain))
    if other.detects != first.detects:
        raise InputError(
            f'a detector is timed beside detectors alone: {first.name} is '
            f'{"one" if first.detects else "none"}, {path} is '
            f'{"one" if other.detects else "none"}')
    return other


def call_function(path: str, name: str) -> nn.Module:
    """The network that a function in a file of Python returns."""
    if not os.path.isfile(path):
        raise InputError(f'there is no file {path!r}')
    spec = spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    with input_errors(where=f'{path!r} with {name!r}: '):
        spec.loader.exec_module(module)
        net = getattr(module, name)()
    if not isinstance(net, nn.Module):
        raise InputError(f'{name} of {path!r} must return an nn.Module, got '
                         f'{type(net).__name__}')
    return net


class Entering:
    """Enters networks in all modes.

    Args:
        args (Namespace): The command line.
        images (Tensor): Those of the stream.
        folder (str): Where exported graphs go.
    """

    def __init__(self, args: argparse.Namespace, images: Tensor,
                 folder: str) -> None:
        self.args, self.images, self.folder = args, images, folder
        self.shape = tuple(images.shape[1:])

    def network(self, index: int, network: Network) -> List[BenchmarkEntry]:
        """Enter one; thresholds on the command line are for the first."""
        folder = os.path.join(self.folder, str(index))
        with input_errors():
            policy = self._policy(network, index == 0)
            for file_format in sorted(set(map(format_of, self.args.runtimes))):
                self._export(network, folder, file_format)
            if network.config is None:
                return self._static(network, folder)
            return [
                entry for mode in self.args.modes
                for entry in self._in_mode(network, mode, folder, policy)
            ]

    def _policy(self, network: Network, first: bool) -> Optional[ExitPolicy]:
        """Where images leave, unless by shares."""
        if network.num_exits == 1:
            return None
        policy = common.choose_policy(self.args, network.model) if first \
            else network.model.policy
        return policy if policy.thresholds is not None else None

    def _export(self, network: Network, folder: str, file_format: str) -> None:
        """Write what the runtimes of a format run."""
        folder = f'{folder}-{file_format}'
        if network.detects:
            detectors.export_detector_model(network.model, self.shape, folder)
            return
        if network.config is None:
            deployed.export_net(network.model, self.shape, folder, file_format)
            return
        deployed.export_model(network.model, self.shape, folder, file_format)
        if self.args.unsplit and network.num_exits > 1:
            deployed.export_one_graph(network.model, self.shape,
                                      f'{folder}-one', file_format)

    def _static(self, network: Network, folder: str) -> List[BenchmarkEntry]:
        """A network of torchvision: eager, and in the runtimes."""
        runtimes = self.args.runtimes
        eager = [entries.static_entry(network.name, network.model)
                 ] if len(runtimes) < len(self.args.modes) else []
        return eager + [
            deployed.graph_entry(network.name, mode,
                                 f'{folder}-{format_of(mode)}',
                                 torch.get_num_threads()) for mode in runtimes
        ]

    def _in_mode(self, network: Network, mode: str, folder: str,
                 policy: Optional[ExitPolicy]) -> List[BenchmarkEntry]:
        """The model of a config in one mode, and perhaps as one graph."""
        name, model = network.name, network.model
        if mode not in DEPLOYED_MODES:
            return [self._in_torch(network, mode, policy)]
        folder = f'{folder}-{format_of(mode)}'
        staged = self.exported(name, mode, folder, policy)
        if not self.args.unsplit or network.num_exits == 1:
            return [staged]
        one = deployed.graph_entry(f'{name} (one graph)',
                                   mode, f'{folder}-one',
                                   torch.get_num_threads(), staged.macs[-1],
                                   model.exit_parts()[1].num_classes)
        return [staged, one]

    def _in_torch(self, network: Network, mode: str,
                  policy: Optional[ExitPolicy]) -> BenchmarkEntry:
        """The model of a config in one of PyTorch's modes."""
        model = in_mode(network.model, mode, self.shape[-2:])
        enter = detectors.detector_entry if network.detects else \
            entries.early_exit_entry
        entry = enter(network.name, mode, model, self.shape, policy)
        if not self.args.shares or network.num_exits == 1:
            return entry
        policy = entries.policy_for_shares(entry.all_exits, self.images,
                                           self.args.shares,
                                           self.args.batch_size[0],
                                           network.model.criterion)
        return enter(network.name, mode, model, self.shape, policy)

    def exported(self,
                 name: str,
                 mode: str,
                 folder: str,
                 policy: Optional[ExitPolicy] = None) -> BenchmarkEntry:
        """An exported network in one runtime."""
        with input_errors():
            runner = deployed.open_exported(folder, mode,
                                            torch.get_num_threads(),
                                            self.shape)
            return deployed.runner_entry(name, mode, runner, policy,
                                         self.images, self.args.shares,
                                         self.args.batch_size[0])


def enter_all(networks: List[Network], args: argparse.Namespace,
              images: Tensor, folder: str) -> List[BenchmarkEntry]:
    """All networks in all modes, and what was exported before."""
    entering = Entering(args, images, folder)
    entered = [
        entry for index, network in enumerate(networks)
        for entry in entering.network(index, network)
    ]
    for path in args.exported:
        name = os.path.basename(os.path.normpath(path))
        entered += [
            entering.exported(name, mode, path)
            for mode in fitting_modes(path, args.runtimes)
        ]
    for path in args.onnx:
        entered += [
            deployed.onnx_entry(path, mode, torch.get_num_threads(),
                                entering.shape) for mode in args.runtimes
            if mode in ONNX_MODES
        ]
    return entered
