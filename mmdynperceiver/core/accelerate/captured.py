# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Leaving early by captured CUDA graphs, which leave the host little to do.

Small networks at small batches are bound by the host, which launches some
hundred operators for each exit. A captured graph is launched as one.
"""
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import (Any, Callable, Dict, Iterator, List, Optional, Sequence,
                    Tuple, TypeVar)

import torch
from torch import Tensor, nn

from ..image_checks import check_images
from ..policy import NEVER, ExitPolicy, Prediction
from ..protocols import ExitClassifiers
from ..segments import SegmentedTrunk
from .bucket_graphs import BucketGraphs, Capture, CudaCapture
from .compiled import BUCKETS
from .copies import copy_model

__all__ = [
    'CapturedExits', 'GraphStatistics', 'capture_segments', 'graph_statistics'
]

_Module = TypeVar('_Module', bound=nn.Module)

# Kinds of batches (sizes of images, precisions, criteria) to capture for.
MOST_KINDS = 8


def capture_segments(
    model: _Module,
    buckets: Sequence[int] = BUCKETS,
    make_capture: Optional[Callable[[torch.device],
                                    Capture]] = None) -> _Module:
    """Copy a model with exits and capture its segments as CUDA graphs.

    There is one graph for each exit and each batch size among ``buckets``.
    It holds the segment, the classifier and the decision; those who stay are
    written straight to where the next graph reads them, of the next batch
    size that they fit into, whatever is in its other rows; and only their
    number goes to the host, once for each exit. The graphs are captured when
    the first batch of a size of images comes, which takes seconds, the
    largest first, in one pool of memory.

    What no graph is there for runs as the given model does, is counted and
    warned of: see :func:`graph_statistics`. So give a compiled model
    (``compile_segments``) where larger batches are to be compiled. TF32 and
    other settings of PyTorch are those of the capture.

    Args:
        model (nn.Module): A model with exits: ``DynPerceiver``, a classifier,
            a recognizer; on its GPU, in eval mode, best what
            ``prepare_for_inference`` returns.
        buckets (Sequence[int]): Batch sizes, in images or in videos.
            Defaults to 1, 2, 4, ... 128.
        make_capture (Callable, optional): Makes what captures, of a device.
            Defaults to None, CUDA graphs.

    Returns:
        nn.Module: Of the same class; it predicts only, by one thread at a
        time, and refuses weights that have changed since the capture.

    Raises:
        RuntimeError: If the model is in training mode.
        ValueError: If the model has no exits or is not on a GPU, or a bucket
            is no positive whole number.

    Example:
        >>> net = prepare_for_inference(net.cuda())
        >>> fast = capture_segments(net, buckets=(1, 2, 4, 8))
        >>> out = fast.predict(images, (0.9, 0.8, 0.7))
        >>> print(graph_statistics(fast))
    """
    if model.training:
        raise RuntimeError('capture_segments was called in training mode: '
                           'call eval() first')
    if not buckets or not all(
            isinstance(size, int) and size > 0 for size in buckets):
        raise ValueError(f'buckets must be whole numbers of at least 1, got '
                         f'{tuple(buckets)!r}')
    parts: Any = getattr(model, 'exit_parts', lambda: (None, None))
    if None in parts():
        raise ValueError(
            f'{type(model).__name__} has no classifiers at its exits; graphs '
            f'are for classifiers and recognizers: use another mode')
    device = next(model.parameters()).device
    if make_capture is None:
        if device.type != 'cuda':
            raise ValueError(
                f'graphs are captured on CUDA GPUs, and the model is on '
                f'{device}: move it to one, or use another mode')
        make_capture = CudaCapture
    captured = copy_model(model).requires_grad_(False)
    trunk, exits = captured.exit_parts()  # type: ignore[operator]
    trunk.captured = CapturedExits(trunk, exits, tuple(sorted(set(buckets))),
                                   make_capture)
    return captured


@dataclass
class GraphStatistics:
    """What graphs did: how many were captured, for how many kinds of batches;
    batches that ran by them; and those that did not, by the reason."""

    graphs: int
    kinds: int
    batches: int
    misses: Dict[str, int]

    def __str__(self) -> str:
        missed = ', '.join(f'{count} {reason}'
                           for reason, count in self.misses.items())
        return (f'{self.graphs} graphs for {self.kinds} kinds of batches; '
                f'{self.batches} batches ran by them, '
                f'{sum(self.misses.values())} without'
                f'{f" ({missed})" if missed else ""}')


def graph_statistics(model: Any) -> GraphStatistics:
    """What the graphs of a model from ``capture_segments`` did so far.

    Raises:
        ValueError: If it is no such model.
    """
    captured = model.exit_parts()[0].captured
    if captured is None:
        raise ValueError(f'{type(model).__name__} has no captured graphs: see '
                         f'capture_segments')
    return captured.statistics()


class CapturedExits:
    """Runs batches by graphs, where there are some for them."""

    def __init__(self, trunk: SegmentedTrunk, exits: ExitClassifiers,
                 buckets: Sequence[int],
                 make_capture: Callable[[torch.device], Capture]) -> None:
        self.trunk, self.exits = trunk, exits
        self.buckets, self.make_capture = buckets, make_capture
        self._start()

    def _start(self) -> None:
        """Nothing is captured yet."""
        self._kinds: Dict[Tuple[Any, ...], BucketGraphs] = {}
        self._capture: Optional[Capture] = None
        self._weights: List[Tuple[Any, ...]] = []
        self._batches = 0
        self._misses: Dict[str, int] = {}
        self._lock = Lock()

    def __getstate__(self) -> Dict[str, Any]:
        """A copy captures its own graphs."""
        return {
            name: value
            for name, value in vars(self).items() if name[0] != '_'
        }

    def __setstate__(self, state: Dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def predict(self, exits: ExitClassifiers, policy: ExitPolicy,
                images: Tensor, group: int) -> Optional[Prediction]:
        """As :func:`~mmdynperceiver.core.run_early_exit`; None where the
        caller has to."""
        batch = alive = len(images) // group
        last = policy.num_exits - 1
        with self._ready(exits, policy, images, group) as graphs:
            if graphs is None:
                return None
            graphs.load(images, policy.thresholds or (NEVER, ) * last)
            for index in range(last + 1):
                size = graphs.run(index, alive)
                counts = index < last and policy.thresholds is not None
                if counts:
                    graphs.send_count(index, size)
                if index == 0:  # while the device works
                    self._check_weights()
                if counts:
                    alive = graphs.capture.receive()
                    if alive == 0:
                        break
            return Prediction(*graphs.results(batch))

    def all_exits(self, exits: ExitClassifiers, images: Tensor,
                  group: int) -> Optional[Tuple[Tensor, ...]]:
        """As :func:`~mmdynperceiver.core.run_all_exits`; None where the
        caller has to."""
        batch = len(images) // group
        found = []
        with self._ready(exits, None, images, group) as graphs:
            if graphs is None:
                return None
            graphs.load(images, (NEVER, ) * (exits.num_exits - 1))
            for index in range(exits.num_exits):
                graphs.run(index, batch)
                found.append(graphs.results(batch)[0])
            self._check_weights()
        return tuple(found)

    def statistics(self) -> GraphStatistics:
        """See :func:`graph_statistics`."""
        return GraphStatistics(
            sum(map(len, self._kinds.values())), len(self._kinds),
            self._batches, dict(self._misses))

    @contextmanager
    def _ready(self, exits: ExitClassifiers, policy: Optional[ExitPolicy],
               images: Tensor, group: int) -> Iterator[Optional[BucketGraphs]]:
        """The graphs for a batch, for this thread alone; None without."""
        if images.is_meta:
            yield None
            return
        check_images(images, self.trunk.min_size)
        reason = self._reason(exits, images, group)
        if reason is not None:
            self._miss(reason)
            yield None
            return
        device = images.get_device()  # -1 of the CPU, which is no device
        with self._lock, torch.cuda.device(device), \
                torch.inference_mode(False), torch.no_grad():
            graphs = self._find(policy, images, group)
            if graphs is not None:
                self._batches += 1
                graphs.capture.begin()
            yield graphs

    def _reason(self, exits: ExitClassifiers, images: Tensor,
                group: int) -> Optional[str]:
        """Why a batch cannot run by graphs, if so.

        Raises:
            RuntimeError: If it would have to run on another device, or in
                training mode.
        """
        device = next(self.trunk.parameters()).device
        if images.device != device:
            raise RuntimeError(f'the captured model is on {device}, got '
                               f'images on {images.device}: move them there')
        if self.trunk.training or getattr(exits, 'training', False):
            raise RuntimeError('a model from capture_segments cannot be '
                               'trained: train the one it was made of')
        if exits is not self.exits:
            return 'other exits than those of the model'
        if len(images) == 0 or len(images) % group:
            return 'no whole sample'
        if len(images) // group > self.buckets[-1]:
            return f'batches above {self.buckets[-1]}'
        if images.requires_grad and torch.is_grad_enabled():
            return 'images that need gradients'
        if torch.is_autocast_enabled(images.device.type):
            return 'under autocast'
        return None

    def _miss(self, reason: str) -> None:
        """Count a batch, and warn of the first."""
        if reason not in self._misses:
            warnings.warn(f'captured graphs do not run {reason}: such batches '
                          f'run as without graphs, and are counted')
        self._misses[reason] = self._misses.get(reason, 0) + 1

    def _find(self, policy: Optional[ExitPolicy], images: Tensor,
              group: int) -> Optional[BucketGraphs]:
        """The graphs for a kind of batches; those of any policy if that does
        not matter, as it does to what ensembles answer."""
        kind: Tuple[Any, ...] = (tuple(images.shape[1:]), images.dtype, group)
        if policy is None:
            for known, graphs in self._kinds.items():
                if known[:3] == kind and not graphs.combines:
                    return graphs
            policy = ExitPolicy(self.exits.num_exits)
        kind += (policy.criterion, policy.temperature, policy.ensemble,
                 policy.stopping)
        if kind not in self._kinds:
            if len(self._kinds) == MOST_KINDS:
                self._miss(f'more than {MOST_KINDS} sizes of images, '
                           f'precisions and criteria')
                return None
            self._kinds[kind] = self._make(policy, images, group)
        return self._kinds[kind]

    def _make(self, policy: ExitPolicy, images: Tensor,
              group: int) -> BucketGraphs:
        """Capture for a new kind of batches."""
        if self._weights:
            self._check_weights()
        else:
            self._weights = list(_weights(self.trunk, self.exits))
        if self._capture is None:
            self._capture = self.make_capture(images.device)
        return BucketGraphs(self.trunk, self.exits, policy, images,
                            self.buckets, group, self._capture)

    def _check_weights(self) -> None:
        """Refuse to go on with weights that the graphs do not have."""
        for owner, name, tensor, address, version in self._weights:
            if owner.get(name) is not tensor or \
                    tensor.data_ptr() != address or \
                    _version(tensor) != version:
                raise RuntimeError(
                    f'{name} of a model from capture_segments has changed or '
                    f'moved since its graphs were captured: call '
                    f'capture_segments on the model with the new weights')


def _weights(*parts: Any) -> Iterator[Tuple[Any, ...]]:
    """All parameters and buffers: where they are registered, by which name,
    the tensor, its address and its version."""
    for part in parts:
        for module in part.modules():
            for owner in (module._parameters, module._buffers):
                for name, tensor in owner.items():
                    if tensor is not None:
                        yield (owner, name, tensor, tensor.data_ptr(),
                               _version(tensor))


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to, where that is counted."""
    return 0 if tensor.is_inference() else tensor._version
