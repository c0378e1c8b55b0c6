# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Segments as torch.compile makes them, one graph for each batch size."""
from typing import Any, Callable, Dict, Optional, Sequence, Tuple, TypeVar

import torch
from torch import Tensor, nn

from ..segments import SegmentedTrunk
from .copies import copy_model
from .prepared import prepare_for_inference

__all__ = ['BUCKETS', 'MODES', 'compile_segments', 'in_mode']

_Module = TypeVar('_Module', bound=nn.Module)

# Batch sizes to compile for, in clips where the images are frames. Samples
# leave in any number, and a graph for each would take longer to compile than
# it saves.
BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)

# How a model can run.
MODES = ('eager', 'prepared', 'prepared-bf16', 'compiled', 'compiled-bf16',
         'graphs', 'graphs-bf16')


def compile_segments(model: _Module,
                     buckets: Optional[Sequence[int]] = None,
                     backend: str = 'inductor',
                     options: Optional[Dict[str, Any]] = None) -> _Module:
    """Copy a model and compile each of its segments when it is first run.

    A batch is padded with copies of its last sample up to the next bucket, so
    that early exit, which leaves any number of samples, meets few sizes; a
    batch above the last bucket is compiled for its own size. Each segment and
    bucket takes seconds to minutes to compile, and each size of images again;
    after as many graphs as one size needs, further ones run as they are. Of a
    detector the trunk is compiled, from exit to exit; neck and head run as
    they are.

    Args:
        model (nn.Module): A trunk or a module that holds one, in eval mode,
            best what ``prepare_for_inference`` returns.
        buckets (Sequence[int], optional): Batch sizes, in images; where
            these are frames, multiples of the frames of a clip. Defaults to
            None, 1, 2, 4, ... 128 images or clips.
        backend (str): Of ``torch.compile``. Defaults to 'inductor', which
            needs a C++ compiler on CPUs.
        options (dict, optional): Of the backend. Defaults to None: constant
            weights (``freezing``) for 'inductor'.

    Returns:
        nn.Module: Of the same class; it predicts only.

    Raises:
        RuntimeError: If the model is in training mode.
        ValueError: If there is no trunk in it, or a bucket is no positive
            whole number or would split a clip.
    """
    if model.training:
        raise RuntimeError('compile_segments was called in training mode: '
                           'call eval() first')
    if buckets is not None and not (buckets and all(
            isinstance(size, int) and size > 0 for size in buckets)):
        raise ValueError(f'buckets must be whole numbers of at least 1, got '
                         f'{tuple(buckets)!r}')
    compiled = copy_model(model).requires_grad_(False)
    trunks = [m for m in compiled.modules() if isinstance(m, SegmentedTrunk)]
    if not trunks:
        raise ValueError(f'there is no trunk in {type(model).__name__}')
    if options is None and backend == 'inductor':
        options = dict(freezing=True)
    for trunk in trunks:
        sizes = _bucket_sizes(buckets, trunk.frames_per_clip)
        for name in _RUNS:
            vars(trunk)[name] = _Compiled(trunk, name, sizes, backend, options)
    return compiled


# What a trunk runs at once, for classifiers and for detectors.
_RUNS = ('run_segment', 'run_halves')


def _bucket_sizes(buckets: Optional[Sequence[int]],
                  frames_per_clip: int) -> Sequence[int]:
    """Batch sizes in images, rising."""
    if buckets is None:
        return [size * frames_per_clip for size in BUCKETS]
    if any(size % frames_per_clip for size in buckets):
        raise ValueError(
            f'buckets must be multiples of the {frames_per_clip} frames of a '
            f'clip, which padding would split, got {tuple(buckets)!r}')
    return sorted(buckets)


def in_mode(model: _Module,
            mode: str,
            image_size: Optional[Sequence[int]] = None) -> _Module:
    """A model in one of ``MODES``: as it is, prepared, or prepared and
    compiled, or prepared and captured as CUDA graphs; those in -bf16 compute
    in bfloat16. Images of another size than the given height and width are
    right too, but slower.

    Raises:
        ValueError: If there is no such mode, or none for this model.
    """
    if mode not in MODES:
        raise ValueError(f'mode must be one of {", ".join(MODES)}, got '
                         f'{mode!r}')
    if mode == 'eager':
        return model
    dtype = torch.bfloat16 if mode.endswith('-bf16') else None
    prepared = prepare_for_inference(model, image_size, dtype)
    if mode.startswith('compiled'):
        return compile_segments(prepared)
    if mode.startswith('graphs'):
        from .captured import capture_segments  # has buckets from here
        return capture_segments(prepared)
    return prepared


class _Compiled:
    """Stands in for a method of a trunk, ``run_segment`` or ``run_halves``."""

    def __init__(self, trunk: SegmentedTrunk, name: str,
                 buckets: Sequence[int], backend: str,
                 options: Optional[Dict[str, Any]]) -> None:
        self.trunk = trunk
        self.name = name
        self.buckets = buckets
        self.backend = backend
        self.options = options
        self._compiled: Optional[Callable[..., Any]] = None

    def __getstate__(self) -> Dict[str, Any]:
        """A copy is compiled for the copy of the trunk."""
        return {**vars(self), '_compiled': None}

    def __call__(self, part: Any,
                 state: Any) -> Tuple[Any, Tuple[Tensor, ...]]:
        """Pad, run the part, cut; see :class:`SegmentedTrunk`."""
        batch = len(state[0])
        if not batch:  # there is no sample to pad with
            return self.method(part, state)
        bucket = next((size for size in self.buckets if size >= batch), batch)
        if bucket == batch:
            return self.run(part, state)
        rows = torch.arange(bucket, device=state[0].device)
        rows = rows.clamp_(max=batch - 1)
        kind = self.trunk.state_type
        padded = kind(*(None if t is None else t.index_select(0, rows)
                        for t in state))
        state, results = self.run(part, padded)
        state = kind(*(None if t is None else t[:batch] for t in state))
        return state, tuple(result[:batch] for result in results)

    @property
    def method(self) -> Callable[..., Any]:
        """The trunk's own method."""
        return getattr(type(self.trunk), self.name).__get__(self.trunk)

    def run(self, part: Any, state: Any) -> Tuple[Any, Tuple[Tensor, ...]]:
        """Run a batch of one of the sizes."""
        if state[0].is_meta:  # MACs are counted
            return self.method(part, state)
        if self._compiled is None:
            # Each with gradients, without, and in inference mode.
            _allow_graphs(3 * self.trunk.num_segments *
                          (len(self.buckets) + 1))
            self._compiled = torch.compile(
                self.method,
                dynamic=False,
                backend=self.backend,
                options=self.options)
        return self._compiled(part, state)


def _allow_graphs(number: int) -> None:
    """Let torch.compile keep so many graphs of one function."""
    import torch._dynamo.config as config
    for name in ('recompile_limit', 'cache_size_limit'):  # new and old name
        if hasattr(config, name):
            setattr(config, name, max(getattr(config, name), number))
            return
