# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Write a segment of a network as a graph of LiteRT.

It needs litert_torch, which converts what torch.export makes of the segment.
"""
import os
from typing import Any, Dict, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from ..io.describe import one_line
from .manifest import Segment
from .tracing import foreign_layers, quiet

__all__ = ['litert_package', 'write_litert']


def litert_package() -> Any:
    """The package that converts; ImportError, if it is missing."""
    # What it tells of each step, on the console.
    os.environ.setdefault('LITERT_TORCH_SHOW_PROGRESS', 'n')
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '1')
    try:
        with quiet():
            import litert_torch
    except ImportError as error:
        raise ImportError(
            f'to export for LiteRT takes litert-torch, which cannot be '
            f'imported ({one_line(error)}): pip install litert-torch'
        ) from error
    return litert_torch


class _ByName(nn.Module):
    """A graph of one sample as a function of named tensors."""

    def __init__(self, graph: nn.Module, examples: Mapping[str, Tensor],
                 outputs: Sequence[str]) -> None:
        super().__init__()
        # Not 'graph', which torch.export's own modules have.
        self.segment = graph
        self.examples = examples
        self.outputs = outputs

    def forward(self, **tensors: Tensor) -> Dict[str, Tensor]:
        """Run it; what is not given is not read."""
        given = {**self.examples, **tensors}
        return dict(zip(self.outputs, self.segment(*given.values())))


@torch.no_grad()
def write_litert(graph: nn.Module, examples: Mapping[str, Tensor],
                 outputs: Sequence[str], folder: str, name: str) -> Segment:
    """Write one graph, which takes one sample, with its tensors' names.

    Args:
        graph (nn.Module): Tensors -> list of tensors.
        examples (Mapping[str, Tensor]): Its inputs, of any batch, by name.
        outputs (Sequence[str]): Names of what it returns.
        folder (str): Where the file goes.
        name (str): Its name, without the ending.

    Raises:
        ImportError: If litert_torch is missing.
        ValueError: If LiteRT has no operator for what a layer does.
    """
    package = litert_package()
    examples = {key: value[:1] for key, value in examples.items()}
    segment = Segment(f'{name}.tflite', _read_by(graph, examples),
                      list(outputs))
    module = _ByName(graph, examples, outputs).eval()
    try:
        with quiet():
            package.convert(
                module,
                sample_kwargs={
                    key: examples[key]
                    for key in segment.inputs
                }).export(os.path.join(folder, segment.file))
    except Exception as error:  # of torch, JAX, or the converter
        raise ValueError(
            f'a network with {foreign_layers(graph)} cannot be '
            f'exported for LiteRT: {one_line(error)[:300]}') from error
    return segment


def _read_by(graph: nn.Module, examples: Mapping[str, Tensor]) -> Any:
    """Names of the inputs that a graph reads."""
    nodes = make_fx(graph)(*examples.values()).graph.nodes
    given = (node for node in nodes if node.op == 'placeholder')
    return [name for name, node in zip(examples, given) if node.users]
