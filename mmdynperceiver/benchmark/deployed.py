# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Exported networks in a benchmark, beside those that PyTorch runs."""
import os
from functools import partial
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from ..core import ExitPolicy, Prediction, SegmentedTrunk
from ..core.protocols import EarlyExitNetwork, ExitClassifiers
from ..core.segments import TrunkState
from ..deploy import Policy
from ..deploy.exported import ExportedNetwork
from ..deploy.opening import open_network
from ..errors import InputError, input_errors
from .entries import BenchmarkEntry, Left, policy_for_shares
from .modes import DEPLOYED_MODES, check_deployed_modes

__all__ = [
    'DEPLOYED_MODES', 'check_deployed_modes', 'export_model', 'export_net',
    'export_one_graph', 'graph_entry', 'onnx_entry', 'open_exported',
    'runner_entry'
]


def export_model(model: EarlyExitNetwork,
                 shape: Sequence[int],
                 folder: str,
                 file_format: str = 'onnx') -> None:
    """Export an early-exit model for normalised images (3, H, W), or videos
    (M, 3, H, W), into a new folder.

    See :func:`export_network`, also for the format; the folder is for
    :func:`open_exported`.
    """
    from ..deploy.export import export_network
    trunk, exits = model.exit_parts()
    preprocessing: Dict[str, Any] = dict(
        size=list(shape[-2:]),
        mean=[0., 0., 0.],
        std=[1., 1., 1.],
        decoder='pillow',
        steps=[])
    if len(shape) == 4:
        preprocessing.update(video=dict(num_clips=shape[0]))
    classes = [str(number) for number in range(exits.num_classes)]
    export_network(
        trunk,
        exits,
        folder,
        preprocessing,
        ExitPolicy(exits.num_exits),
        classes,
        file_format=file_format)


def export_one_graph(model: EarlyExitNetwork,
                     shape: Sequence[int],
                     folder: str,
                     file_format: str = 'onnx') -> None:
    """Export an early-exit model as one graph that runs all its exits."""
    from ..deploy.formats import opset_of
    from ..deploy.graph_forms import copies_for_export
    copies = copies_for_export(*model.exit_parts(), shape[-2:],
                               opset_of(file_format))
    export_net(_AllExits(*copies), shape, folder, file_format)


def export_net(net: nn.Module,
               shape: Sequence[int],
               folder: str,
               file_format: str = 'onnx') -> None:
    """Export any network as one graph, as segments are exported.

    Args:
        net (nn.Module): Images (B, 3, H, W) -> logits (B, K), or those of
            several classifiers, of which the graph returns the last; on the
            CPU.
        shape (Sequence[int]): (3, H, W), or (M, 3, H, W) of videos, whose
            logits are averaged.
        folder (str): A new folder, for :func:`graph_entry`.
        file_format (str): 'onnx' or 'litert'. Defaults to 'onnx'.

    Raises:
        RuntimeError: If the graph does not agree with the network.
        ValueError: If the images are too small.
    """
    from ..deploy.export import export_segments, verify_segments
    os.mkdir(folder)
    parts = _OneSegment(net.eval()), _Logits()
    exported = export_segments(*parts, shape, folder, file_format=file_format)
    verify_segments(*parts, exported, folder, file_format)


class _AllExits(nn.Module):
    """Images (B, 3, H, W) -> logits (B, number of exits * K)."""

    def __init__(self, trunk: SegmentedTrunk, exits: ExitClassifiers) -> None:
        super().__init__()
        self.trunk = trunk
        self.exits = exits

    def forward(self, images: Tensor) -> Tensor:
        """Put the logits of all exits in one row."""
        return torch.cat(self.exits(self.trunk(images)), 1)


class _OneSegment(SegmentedTrunk):
    """Any network as a trunk with one exit, whose logits it knows itself."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__('x')
        self.net = net

    def run_segment(
            self, index: int,
            state: TrunkState) -> Tuple[TrunkState, Tuple[Tensor, ...]]:
        """Run the network."""
        found = self.net(state.x)
        return state, (found if isinstance(found, Tensor) else found[-1], )


class _Logits(nn.Module):
    """Stands in for the exits behind :class:`_OneSegment`."""

    num_exits = 1
    num_classes = 0  # not known

    def step(self,
             index: int,
             features: Sequence[Tensor],
             knowledge: Optional[Tensor] = None) -> Tuple[Tensor, None]:
        """What is classified are the logits."""
        return features[0], None

    def forward(self,
                features: Sequence[Sequence[Tensor]]) -> Tuple[Tensor, ...]:
        """The logits (B, K) of the only exit."""
        return tuple(logits for logits, in features)


def open_exported(folder: str, mode: str, threads: int,
                  image_shape: Sequence[int]) -> ExportedNetwork:
    """Open an exported network for images of one shape (3, H, W), which a
    detector pads.

    Raises:
        InputError: If the folder is none or was changed, or is for images of
            another shape.
    """
    runtime, precision = DEPLOYED_MODES[mode]
    with input_errors(OSError, ValueError):
        runner = open_network(folder, runtime, threads, precision)
    expected = tuple(runner.manifest.tensors['images'][1:])
    if len(expected) != len(image_shape) or any(
            size not in (None, given)
            for size, given in zip(expected, image_shape)):
        raise InputError(f'{folder!r} was exported for images of the shape '
                         f'{expected}, and those to measure with have '
                         f'{tuple(image_shape)}: choose them by --size')
    return runner


def runner_entry(name: str,
                 mode: str,
                 runner: ExportedNetwork,
                 policy: Optional[ExitPolicy] = None,
                 images: Optional[Tensor] = None,
                 shares: Optional[Sequence[float]] = None,
                 batch_size: int = 1) -> BenchmarkEntry:
    """Enter an exported network with its exits.

    Args:
        name (str): Its name.
        mode (str): How it runs, one of ``DEPLOYED_MODES``.
        runner (Runner | Detector): The network in that mode.
        policy (ExitPolicy, optional): Where images leave. Defaults to None,
            where the runner's own says.
        images (Tensor, optional): Normalised images (N, 3, H, W), and
        shares (Sequence[float], optional): which part of them, in batches of
        batch_size (int): leaves at each exit instead.

    Raises:
        ValueError: If the shares do not fit.
    """
    count = runner.manifest.num_exits

    def all_exits(batch: Tensor) -> Sequence[Tensor]:
        return [torch.from_numpy(x) for x in runner.all_exits(_array(batch))]

    def run(policy: Policy,
            batch: Tensor,
            staged: bool = False) -> Union[Prediction, Left]:
        found = runner.predict(
            runner.normalised(_array(batch)), policy, staged=staged)
        if runner.detects:
            return Left(torch.from_numpy(found.exit_index))
        return Prediction(*map(torch.from_numpy, found[:3]))

    used = runner.policy
    if shares and images is not None and count > 1:
        # Not those of PyTorch's logits: rounding would move the shares.
        policy = policy_for_shares(all_exits, images, shares, batch_size,
                                   'learned' if runner.detects else 'max_prob')
    if policy is not None:
        used = Policy(count, policy.thresholds, **policy.settings)
    fixed = [runner.leave_at(k) for k in range(count)]
    return BenchmarkEntry(
        name, mode, [partial(run, one, staged=True) for one in fixed],
        all_exits,
        partial(run, used) if used.thresholds and count > 1 else None,
        runner.manifest.macs_per_exit)


def graph_entry(name: str,
                mode: str,
                folder: str,
                threads: int,
                macs: Optional[int] = None,
                num_classes: Optional[int] = None) -> BenchmarkEntry:
    """Enter a network that is one graph.

    Args:
        name (str): Its name.
        mode (str): How it runs, one of ``DEPLOYED_MODES``.
        folder (str): What :func:`export_net` wrote.
        threads (int): Number of threads.
        macs (int, optional): Its MACs. Defaults to None, not known.
        num_classes (int, optional): How many of the last numbers in a row
            are the last exit's. Defaults to None, all.
    """
    from ..deploy.sessions import RUNTIMES, open_session
    runtime, precision = DEPLOYED_MODES[mode]
    path = os.path.join(folder, f'segment0{RUNTIMES[runtime].ending}')
    session = open_session(runtime, path, ['logits0'], threads, precision)

    def run(batch: Tensor) -> List[np.ndarray]:
        return session.run(dict(images=_array(batch)))

    def last_exit(batch: Tensor) -> Sequence[Tensor]:
        logits = torch.from_numpy(run(batch)[0].copy())
        return (logits[:, -(num_classes or logits.shape[1]):], )

    return BenchmarkEntry(
        name, mode, [run], last_exit, macs=None if macs is None else [macs])


def onnx_entry(path: str, mode: str, threads: int,
               image_shape: Sequence[int]) -> BenchmarkEntry:
    """Enter any ONNX file as it is, whoever exported it.

    Args:
        path (str): The file: one input, of images, and outputs of which the
            last are logits (B, K). All of them are computed.
        mode (str): How it runs, one of ``ONNX_MODES``.
        threads (int): Number of threads.
        image_shape (Sequence[int]): (3, H, W).

    Raises:
        InputError: If it is no such file, or is for other images.
    """
    from ..deploy.graphs import read_graph, read_regular
    from ..deploy.sessions import open_session
    runtime, precision = DEPLOYED_MODES[mode]
    with input_errors(OSError, ValueError):
        graph = read_graph(path, read_regular(path))
        fits = len(graph.inputs) == 1 and all(
            len(shape) == 4 and all(
                size in (None, expected)
                for size, expected in zip(shape[1:], image_shape))
            for shape in graph.inputs.values())
        if not fits:
            raise InputError(
                f'{path!r} takes {graph.inputs}, and must take images of the '
                f'shape {tuple(image_shape)} alone: choose them by --size')
        session = open_session(runtime, path, graph.outputs, threads,
                               precision)
    given = next(iter(graph.inputs))

    def run(batch: Tensor) -> List[np.ndarray]:
        return session.run({given: _array(batch)})

    return BenchmarkEntry(
        os.path.splitext(os.path.basename(path))[0], mode, [run], lambda batch:
        (torch.from_numpy(run(batch)[-1]), ))


def _array(batch: Tensor) -> np.ndarray:
    """The same memory, if it lies as a runtime wants it."""
    return np.ascontiguousarray(batch.numpy())
