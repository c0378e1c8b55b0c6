# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How much memory a pass takes."""
import weakref
from typing import Any, Callable, Dict, List, Tuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ['peak_memory']


def peak_memory(run: Callable[[Tensor], Any], batch: Tensor) -> float:
    """Most memory that tensors take at once during a pass, in MiB.

    On a GPU what PyTorch allocates; on a CPU the tensors that operators
    return, without the weights, the images and what an operator needs inside
    (nor what a compiled graph does).

    Args:
        run (Callable): The pass.
        batch (Tensor): Images (B, 3, H, W).
    """
    if batch.is_cuda:
        torch.cuda.reset_peak_memory_stats(batch.device)
        before = torch.cuda.memory_allocated(batch.device)
        run(batch)
        torch.cuda.synchronize(batch.device)
        peak = torch.cuda.max_memory_allocated(batch.device) - before
    else:
        with _LiveTensors() as counter:
            run(batch)
        peak = counter.peak
    return peak / 2**20


class _LiveTensors(TorchDispatchMode):
    """Adds up the storages that operators make, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: Dict[int, Tuple[Any, int]] = {}

    def __torch_dispatch__(self,
                           func: Any,
                           types: Any,
                           args: Any = (),
                           kwargs: Any = None) -> Any:
        """Run an operator and note each new storage until it is freed."""
        out = func(*args, **(kwargs or {}))
        known = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(out):
            key = storage._cdata
            if key not in known and key not in self._live:
                mark = weakref.ref(
                    storage, lambda _, key=key: self._live.pop(key, None))
                self._live[key] = (mark, storage.nbytes())
                self.peak = max(self.peak,
                                sum(n for _, n in self._live.values()))
        return out


def _storages(tree: Any) -> List[Any]:
    """The storages of all tensors in there."""
    return [
        leaf.untyped_storage() for leaf in tree_leaves(tree)
        if isinstance(leaf, Tensor)
    ]
