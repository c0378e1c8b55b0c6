# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A CUDA graph on the CPU: operators on the same memory, and nothing else."""
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What reads a number from a tensor, which a capture refuses.
FORBIDDEN = (torch.ops.aten._local_scalar_dense.default,
             torch.ops.aten.nonzero.default,
             torch.ops.aten.masked_select.default)


class Tape(TorchDispatchMode):
    """Records the operators of a piece of work with the tensors they met."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in FORBIDDEN:
            raise RuntimeError('operation not permitted when stream is '
                               'capturing')
        out = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        """Run the operators again: no Python of the work is run, and results
        land in the tensors that were there in the recording."""
        for func, args, kwargs, out in self.steps:
            for old, new in zip(
                    tree_leaves(out), tree_leaves(func(*args, **kwargs))):
                if isinstance(old, torch.Tensor) and \
                        old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class TapeCapture:
    """In place of ``CudaCapture``; counts what is recorded and read."""

    def __init__(self, device):
        self.device, self.recorded, self.received = device, 0, 0

    def record(self, work):
        """See Capture."""
        work()  # the warm-up
        tape = Tape()
        with tape:
            work()
        self.recorded += 1
        return tape.replay

    def begin(self):
        """Everything is over here."""

    def send(self, count):
        """See Capture."""
        self.count = count.clone()

    def receive(self):
        """See Capture."""
        self.received += 1
        return int(self.count)
