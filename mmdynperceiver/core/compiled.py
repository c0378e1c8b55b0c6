# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Segments as torch.compile makes them, one graph for each batch size."""
import copy
from typing import Any, Callable, Dict, Optional, Sequence, Tuple, TypeVar

import torch
from torch import Tensor, nn

from .inference import prepare_for_inference
from .segments import SegmentedTrunk, TrunkState

__all__ = ['BUCKETS', 'MODES', 'compile_segments', 'in_mode']

_Module = TypeVar('_Module', bound=nn.Module)

# Batch sizes to compile for. Samples leave in any number, and a graph for
# each would take longer to compile than it saves.
BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)

# How a model can run, fast to slow to start.
MODES = ('eager', 'prepared', 'prepared-bf16', 'compiled', 'compiled-bf16')


def compile_segments(model: _Module,
                     buckets: Sequence[int] = BUCKETS,
                     backend: str = 'inductor',
                     options: Optional[Dict[str, Any]] = None) -> _Module:
    """Copy a model and compile each of its segments when it is first run.

    A batch is padded with copies of its last sample up to the next bucket,
    so that early exit, which leaves any number of samples, meets few sizes;
    a batch above the last bucket is compiled for its own size. Each segment
    and bucket takes seconds to minutes to compile.

    Args:
        model (nn.Module): A trunk or a module that holds one, in eval mode.
            What ``prepare_for_inference`` returns compiles to less.
        buckets (Sequence[int]): Batch sizes, in images; of videos, multiples
            of the frames of a clip. Defaults to 1, 2, 4, ... 128.
        backend (str): Of ``torch.compile``. Defaults to 'inductor', which
            needs a C++ compiler on CPUs.
        options (dict, optional): Of the backend. Defaults to None: constant
            weights (``freezing``) for 'inductor'.

    Returns:
        nn.Module: Of the same class; it predicts only.

    Raises:
        RuntimeError: If the model is in training mode.
        ValueError: If there is no trunk in it, or a bucket is no positive
            whole number.
    """
    if model.training:
        raise RuntimeError('compile_segments was called in training mode: '
                           'call eval() first')
    if not buckets or not all(
            isinstance(size, int) and size > 0 for size in buckets):
        raise ValueError(f'buckets must be whole numbers of at least 1, got '
                         f'{tuple(buckets)!r}')
    compiled = copy.deepcopy(model).requires_grad_(False)
    trunks = [m for m in compiled.modules() if isinstance(m, SegmentedTrunk)]
    if not trunks:
        raise ValueError(f'there is no trunk in {type(model).__name__}')
    if options is None and backend == 'inductor':
        options = dict(freezing=True)
    for trunk in trunks:
        segments = _CompiledSegments(trunk, sorted(buckets), backend, options)
        trunk.run_segment = segments  # type: ignore[method-assign]
    return compiled


def in_mode(model: _Module,
            mode: str,
            image_size: Optional[Sequence[int]] = None) -> _Module:
    """A model as it is, prepared, or prepared and compiled.

    Modes that end in -bf16 compute in bfloat16.

    Args:
        model (nn.Module): As for ``prepare_for_inference``.
        mode (str): One of ``MODES``.
        image_size (Sequence[int], optional): Height and width of the images
            to come. Defaults to None, not known.

    Raises:
        ValueError: If there is no such mode.
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
    return prepared


class _CompiledSegments:
    """Stands in for ``run_segment`` of a trunk.

    Args:
        trunk (SegmentedTrunk): Whose segments to compile.
        buckets (Sequence[int]): Batch sizes, rising.
        backend (str): Of ``torch.compile``.
        options (dict, optional): Of the backend.
    """

    def __init__(self, trunk: SegmentedTrunk, buckets: Sequence[int],
                 backend: str, options: Optional[Dict[str, Any]]) -> None:
        self.buckets = buckets
        self.run: Callable[..., Any] = torch.compile(
            trunk.run_segment, dynamic=False, backend=backend, options=options)
        _allow_graphs(trunk.num_segments * (len(buckets) + 1))

    def __call__(self, index: int,
                 state: TrunkState) -> Tuple[TrunkState, Tuple[Tensor, ...]]:
        """Pad, run the segment, cut; see :class:`SegmentedTrunk`."""
        batch = len(state.x)
        bucket = next((size for size in self.buckets if size >= batch), batch)
        if bucket == batch:
            return self.run(index, state)
        rows = torch.arange(bucket, device=state.x.device)
        rows = rows.clamp_(max=batch - 1)
        padded = TrunkState(*(None if t is None else t.index_select(0, rows)
                              for t in state))  # type: ignore[arg-type]
        state, vectors = self.run(index, padded)
        state = TrunkState(*(None if t is None else t[:batch]
                             for t in state))  # type: ignore[arg-type]
        return state, tuple(vector[:batch] for vector in vectors)


def _allow_graphs(number: int) -> None:
    """Let torch.compile keep so many graphs of one function."""
    import torch._dynamo.config as config
    for name in ('recompile_limit', 'cache_size_limit'):  # new and old name
        if hasattr(config, name):
            setattr(config, name, max(getattr(config, name), number))
            return
