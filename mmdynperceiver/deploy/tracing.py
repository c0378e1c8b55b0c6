# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Trace a segment of a network to an ONNX graph."""
import contextlib
import io
import logging
import warnings
from typing import (Any, Collection, Dict, Iterator, List, Mapping, Optional,
                    Sequence)

import onnx
import torch
from torch import Tensor, nn

from ..core import SegmentedTrunk
from ..core.early_exit import LoopState, run_step
from ..core.protocols import ExitClassifiers

__all__ = [
    'SegmentGraph', 'as_samples', 'foreign_layers', 'handed_on', 'quiet',
    'to_onnx'
]

# The last operator set that PyTorch writes; in those behind it, the operators
# in use have only been extended.
TRACED_OPSET = 20


class SegmentGraph(nn.Module):
    """Segment ``index`` and its exit as a function of tensors alone.

    It takes what ``arguments`` names, fields of the trunk's state such as 'x'
    and 'z', or 'knowledge'; behind the logits it returns what ``results``
    names. Where ``group`` images are one sample, such as a video, all tensors
    are of samples (B, group, ...), and the logits their averages.
    """

    def __init__(self,
                 trunk: SegmentedTrunk,
                 exits: ExitClassifiers,
                 index: int,
                 arguments: Sequence[str],
                 results: Sequence[str],
                 group: Optional[int] = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.exits = exits
        self.index = index
        self.arguments = tuple(arguments)
        self.results = tuple(results)
        self.group = group

    def forward(self, *tensors: Tensor) -> List[Tensor]:
        """Run the segment."""
        if self.group is not None:
            tensors = tuple(map(_as_one_batch, tensors))
        given = dict(zip(self.arguments, tensors))
        if self.index and self.trunk.maps_as_tokens:
            given['x'] = given['x'].permute(0, 3, 1, 2)
        kind = self.trunk.state_type
        carried = LoopState(
            kind(*map(given.get, kind._fields)), given.get('knowledge'))
        carried, logits = run_step(self.trunk, self.exits, self.index, carried)
        made = dict(
            zip(kind._fields,
                (handed_on(self.trunk, carried.state[0]), *carried.state[1:])),
            knowledge=carried.knowledge)
        found = [made[result] for result in self.results]
        if self.group is not None:
            # [B * group, K] -> [B, K]
            logits = as_samples(logits, self.group).mean(1)
            found = [as_samples(one, self.group) for one in found]
        return [logits, *found]


def _as_one_batch(tensor: Tensor) -> Tensor:
    """Samples (B, group, ...) as a batch of all their images."""
    return tensor.reshape(-1, *map(int, tensor.shape[2:]))


def as_samples(tensor: Tensor, group: int) -> Tensor:
    """Images (B * group, ...) as samples (B, group, ...) of so many."""
    # All sizes but the batch are constants of the graph.
    return tensor.reshape(-1, group, *map(int, tensor.shape[1:]))


def handed_on(trunk: SegmentedTrunk, x: Tensor) -> Tensor:
    """A map (B, C, H, W) as it goes from graph to graph.

    Where it was tokens last, it goes as (B, H, W, C), which spares a
    transposition.
    """
    return x.permute(0, 2, 3, 1) if trunk.maps_as_tokens else x


def to_onnx(graph: nn.Module,
            examples: Mapping[str, Tensor],
            outputs: Sequence[str],
            opset: int,
            spatial: Collection[str] = ()) -> onnx.ModelProto:
    """Trace one graph, with examples of its inputs, of a batch above 1.

    Maps named in ``spatial`` may have any height and width.

    Raises:
        ValueError: If ONNX has no operator for what a layer does.
    """
    content: Any = io.BytesIO()
    # The exporter by tracing: it needs no further package, and seconds where
    # the one by torch.export needs minutes. What tracing cannot follow shows
    # in verify_segments.
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                graph,
                tuple(examples.values()),
                content,
                dynamo=False,
                opset_version=min(opset, TRACED_OPSET),
                input_names=list(examples),
                output_names=list(outputs),
                dynamic_axes={
                    name: _free_axes(name, spatial)
                    for name in (*examples, *outputs)
                })
    except RuntimeError as error:
        reason = str(error).strip().split('\n')[0]
        raise ValueError(f'a network with {foreign_layers(graph)} cannot be '
                         f'exported: {reason}') from error
    model = onnx.load_model_from_string(content.getvalue())
    model.opset_import[0].version = opset
    # An older runtime reads older files only.
    oldest = onnx.helper.find_min_ir_version_for(model.opset_import)
    model.ir_version = min(model.ir_version, oldest)
    return model


def _free_axes(name: str, spatial: Collection[str]) -> Dict[int, str]:
    """The axes of a tensor that may have any size, and what these are
    called."""
    free = {0: 'batch'}
    if name in spatial:
        free.update({2: f'{name}_height', 3: f'{name}_width'})
    return free


def foreign_layers(graph: nn.Module) -> str:
    """Names of layers that neither PyTorch nor this package defines."""
    # Of torch.fx are those whose convolutions were folded.
    known = ('torch.nn.modules', 'torch.fx', 'torchvision',
             __name__.split('.')[0])
    names = [
        f'{name} ({type(module).__module__}.{type(module).__name__})'
        for name, module in graph.named_modules()
        if not type(module).__module__.startswith(known)
    ]
    return ', '.join(names[:3]) or 'these layers'


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep exporters and quantisers from talking of themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(
                io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)
