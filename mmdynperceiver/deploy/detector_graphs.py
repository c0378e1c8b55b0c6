# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The parts of a detector as functions of tensors, for images of any size."""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..core import count_macs
from ..core.accelerate.copies import copy_model
from ..core.accelerate.folding import fold
from ..core.accelerate.replace import is_unmodified, replace_modules
from ..core.attention import Attention
from ..core.segments import Half, TrunkState
from .graph_forms import attention_form

__all__ = [
    'Detect', 'Fill', 'Way', 'detector_for_export', 'detector_macs',
    'halves_of'
]


def detector_for_export(model: nn.Module, opset: int) -> Any:
    """A copy of a detector, in eval mode, on the CPU and in single precision,
    written as a runtime wants to see it.

    See :func:`mmdynperceiver.deploy.graph_forms.copies_for_export`; nothing in
    it is for one size of images.
    """
    copied: Any = copy_model(model).cpu().float().eval()
    fold(copied.requires_grad_(False), pointwise_products=False)

    def graph_form(module: Any) -> Optional[nn.Module]:
        if is_unmodified(module, Attention):
            return attention_form(module, opset)
        if is_unmodified(module, nn.AdaptiveAvgPool2d):
            return _AnyPool(module.output_size)
        return None

    return replace_modules(copied, graph_form)


def halves_of(model: Any) -> Sequence[Sequence[Half]]:
    """The halves of stages up to each exit; of a static detector, all."""
    return getattr(model, '_segments', None) or (model.backbone._needed, )


def detector_macs(model: Any, shape: Sequence[int]) -> Sequence[int]:
    """MACs of an image (3, H, W) at each exit, neck and head included."""
    if hasattr(model, 'macs_per_exit'):
        return model.macs_per_exit(shape)
    return count_macs(
        model, lambda m, images: [m.bbox_head(m.neck(m.backbone(images)))],
        shape)


class Way(nn.Module):
    """The backbone from one exit to the next.

    It returns what the policy decides on (B, 1), the finished feature maps of
    these numbers, and the latents if they are needed.
    """

    def __init__(self, model: Any, index: int, maps: Sequence[int],
                 latents: bool) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.exits: Any = getattr(model, 'exits', None)
        self.halves = halves_of(model)
        self.index = index
        self.maps = tuple(maps)
        self.latents = latents

    def run(self, x: Tensor, z: Optional[Tensor]) -> Tuple[Tensor, Any, Dict]:
        """The evidence, the state behind, and all maps that are finished."""
        state = TrunkState(x, z) if self.index else \
            self.backbone.net.initial_state(x)
        state, maps = self.backbone.advance(self.halves[self.index], state)
        if self.index < len(self.halves) - 1:
            logits = self.exits.logits(self.index, state)
        else:
            # All leave here; len() would be a constant of the graph.
            logits = x.new_zeros(x.shape[0], 1)
        return logits, state, maps

    def forward(self, x: Tensor, z: Optional[Tensor] = None) -> List[Tensor]:
        """Run on."""
        logits, state, maps = self.run(x, z)
        latents = [state.z] if self.latents else []
        return [logits, *(maps[i] for i in self.maps), *latents]


class Fill(nn.Module):
    """The levels that are missing at an early exit."""

    def __init__(self, model: Any, index: int) -> None:
        super().__init__()
        self.fill = model.exits.fills[index]

    def forward(self, x: Tensor, z: Tensor) -> List[Tensor]:
        """From the state at the exit."""
        return list(self.fill(TrunkState(x, z)).values())


class Detect(nn.Module):
    """Neck and head: levels, fine to coarse -> scores and coded boxes, all
    levels of the one, then of the other."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.neck, self.bbox_head = model.neck, model.bbox_head

    def forward(self, *levels: Tensor) -> List[Tensor]:
        """Run them."""
        scores, deltas = self.bbox_head(self.neck(levels))
        return [*scores, *deltas]


class _AnyPool(nn.AdaptiveAvgPool2d):
    """Adaptive average pooling of maps of any size, by two products."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, h, w)."""
        size: Any = self.output_size
        height, width = size if isinstance(size, tuple) else (size, size)
        if height == width == 1:
            return x.mean((2, 3), keepdim=True)
        rows, columns = _cells(x.shape[2], height), _cells(x.shape[3], width)
        return rows @ x @ columns.T


def _cells(length: Any, cells: int) -> Tensor:
    """Matrix (cells, length) that averages the cells; the length is traced."""
    number = torch.arange(cells)
    first = torch.div(number * length, cells, rounding_mode='trunc')
    behind = torch.div(
        (number + 1) * length + cells - 1, cells, rounding_mode='trunc')
    place = torch.arange(length)
    inside = (place >= first[:, None]) & (place < behind[:, None])
    return inside.float() / (behind - first)[:, None].float()
