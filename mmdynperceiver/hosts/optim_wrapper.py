# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Mixed precision where mmengine has none."""
from contextlib import contextmanager
from typing import Iterator

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner.amp import autocast
from torch import nn

__all__ = ['BFloat16OptimWrapper']


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Run the forward pass under bfloat16 autocast, on any device.

    bfloat16 has the range of single precision, so no loss is scaled.
    mmengine's ``AmpOptimWrapper`` refuses to work on a CPU.

    Args:
        **kwargs: Arguments of ``mmengine.optim.OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast around the forward pass."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
