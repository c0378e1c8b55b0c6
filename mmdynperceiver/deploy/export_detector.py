# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Write a detector as ONNX graphs: one for each segment, and what follows.

A static detector is one segment; one that stops early has a graph that fills
in missing levels for each early exit, too. Neck and head are one graph, for
all images of a batch together. Images may have any size.
"""
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np
import torch
from torch import Tensor, nn

from ..core import ExitPolicy
from ..io.atomic import atomic_folder
from .detector_graphs import (Detect, Fill, Way, detector_for_export,
                              detector_macs, halves_of)
from .export import EXAMPLE_BATCH, MAX_DIFFERENCE, as_exported, policy_settings
from .formats import versions_of
from .manifest import Detection, Manifest, Segment
from .onnxruntime_session import OPSET, check_opset
from .preprocessing import pad_to
from .sessions import open_session
from .simplify import write_onnx

__all__ = ['box_settings', 'export_detector']

# Of the images that are traced, and of those that are compared: height and
# width in steps of the padding, one of them odd.
EXAMPLE_SIZE = (3, 5)
SIZES = ((2, 3), (5, 4))


def export_detector(model: Any,
                    folder: Union[str, os.PathLike],
                    preprocessing: Mapping[str, Any],
                    policy: Optional[ExitPolicy],
                    classes: Sequence[str],
                    source: Optional[Mapping[str, Any]] = None,
                    opset: int = OPSET,
                    int8_images: Optional[Sequence[str]] = None,
                    int8_test: Optional[Any] = None) -> Manifest:
    """Write a folder that :class:`~mmdynperceiver.deploy.Detector` loads.

    It is written whole or not at all, and only if its graphs agree with the
    detector.

    Args:
        model (nn.Module): A ``RetinaNet`` on a ``DynPerceiverDetBackbone``, or
            a ``DynPerceiverDetector``, in MMDetection.
        folder (str | PathLike): A new or empty folder.
        preprocessing (Mapping): Arguments of
            :class:`mmdynperceiver.deploy.detection.DetectionPreprocessing`.
        policy (ExitPolicy, optional): Decides who leaves; None for a static
            detector.
        classes (Sequence[str]): Names of the classes.
        source (Mapping, optional): What to say of config and checkpoint.
            Defaults to None, nothing.
        opset (int): ONNX's operator set, 18 to 23. Defaults to 23.
        int8_images (Sequence[str], optional): Image files to quantise by.
            Defaults to None, the graphs stay in fp32.
        int8_test (AnnotatedImages, optional): Of
            :mod:`mmdynperceiver.deploy.quantize_detector`, to tell what the
            quantisation costs. Defaults to None: how far boxes agree on
            ``int8_images``.

    Returns:
        Manifest: What the folder says of itself. MACs are those of an image
        of the size in ``preprocessing``.

    Raises:
        FileExistsError: If there is something in the folder already.
        RuntimeError: If the graphs do not agree with the detector.
        ValueError: If the head is of another kind, there is not one name for
            each class, there is no such operator set, or no image to quantise
            or test by can be read.
    """
    boxes = box_settings(model.bbox_head)
    if len(classes) != boxes['num_classes']:
        raise ValueError(f'the detector has {boxes["num_classes"]} classes, '
                         f'got {len(classes)} names')
    step = max(preprocessing['padding'], max(model.backbone.net.strides))
    copied = detector_for_export(model, check_opset(opset))
    model = as_exported(model)
    with atomic_folder(folder) as temporary:
        writer = _Writer(copied, temporary, opset)
        with torch.no_grad():
            writer.write([step * size for size in EXAMPLE_SIZE])
        difference = _verify(model, writer, temporary, step)
        size = pad_to(preprocessing['size'], preprocessing['padding'])
        manifest = Manifest(
            segments=writer.segments,
            tensors=writer.tensors,
            preprocessing=dict(preprocessing),
            policy=policy_settings(policy or ExitPolicy(1)),
            classes=[str(name) for name in classes],
            macs_per_exit=list(detector_macs(model, (3, *size))),
            source=dict(source or {}, largest_logit_difference=difference),
            versions=versions_of(opset),
            detection=Detection(writer.fills, writer.head, writer.levels,
                                boxes))
        if int8_images is not None:
            # Imported here: few exports need it.
            from .quantize_detector import quantize_detector
            manifest.precision = 'int8'
            manifest.quantization = quantize_detector(temporary, manifest,
                                                      int8_images, int8_test)
        manifest.save(temporary)
    return manifest


def box_settings(head: Any) -> Dict[str, Any]:
    """Arguments of :class:`~mmdynperceiver.deploy.boxes.BoxDecoder`.

    Raises:
        ValueError: If the head is no plain ``RetinaHead``, or a setting is
            one that the runner does not have.
    """
    coder: Any = getattr(head, 'bbox_coder', None)
    config: Any = getattr(head, 'test_cfg', None)
    kinds = type(head).__name__, type(coder).__name__
    if kinds != ('RetinaHead', 'DeltaXYWHBBoxCoder'):
        raise ValueError(f'only a RetinaHead with a DeltaXYWHBBoxCoder can be '
                         f'exported, got {" with a ".join(kinds)}')
    nms = dict(config.nms)
    for name, value, only in (('use_sigmoid', head.use_sigmoid_cls,
                               True), ('clip_border', coder.clip_border, True),
                              ('add_ctr_clamp', coder.add_ctr_clamp, False),
                              ('reg_decoded_bbox', head.reg_decoded_bbox,
                               False), ('nms.type', nms.pop('type',
                                                            'nms'), 'nms'),
                              ('nms.class_agnostic',
                               nms.pop('class_agnostic', False),
                               False), ('a positive nms_pre',
                                        config.get('nms_pre', -1) > 0, True)):
        if value != only:
            raise ValueError(f'the head must have {name}={only!r} to be '
                             f'exported, got {value!r}')
    generator = head.prior_generator
    if generator.center_offset:
        raise ValueError('anchors with a center_offset cannot be exported')
    return dict(
        num_classes=head.num_classes,
        anchors=[level.tolist() for level in generator.base_anchors],
        strides=[list(map(float, stride)) for stride in generator.strides],
        means=list(map(float, coder.means)),
        stds=list(map(float, coder.stds)),
        max_ratio=float(abs(np.log(16 / 1000))),
        score_thr=float(config.get('score_thr', 0)),
        nms_pre=int(config.nms_pre),
        iou_threshold=float(nms['iou_threshold']),
        max_per_img=int(config.max_per_img),
        min_bbox_size=float(config.get('min_bbox_size', -1)))


class _Writer:
    """Writes the graphs of a detector, and keeps what the manifest says."""

    def __init__(self, model: Any, folder: str, opset: int) -> None:
        self.model, self.folder, self.opset = model, folder, opset
        self.tensors: Dict[str, List[Any]] = {}
        self.segments: List[Segment] = []
        self.fills: List[Segment] = []
        self.levels: List[List[str]] = []
        self.head: Segment

    def write(self, size: Sequence[int]) -> None:
        """Write all graphs, traced with images of a size."""
        ways = [
            Way(self.model, index, (), False)
            for index in range(len(halves_of(self.model)))
        ]
        states: List[Any] = []
        maps: Dict[int, Tensor] = {}
        images = torch.zeros(EXAMPLE_BATCH, 3, *size)
        x, z = images, None
        for way in ways:
            _, state, finished = way.run(x, z)
            states.append((state, finished))
            maps.update(finished)
            x, z = state
        levels = self.model.backbone.level_maps
        self._write_head([maps[i] for i in levels])
        # Neck and head may leave out the finest levels.
        self._read = [levels[int(name[5:])] for name in self.head.inputs]
        for index, (state, _) in enumerate(states[:-1]):
            self._write_fill(index, state)
        self._add('images', images)
        x, z, given = images, None, ['images']
        for index, (state, finished) in enumerate(states):
            given = self._write_way(index, x, z, given, state, finished)
            x, z = state

    def _write_head(self, levels: Sequence[Tensor]) -> None:
        """The graph of neck and head."""
        graph = Detect(self.model)
        made = graph(*levels)
        half = len(made) // 2
        names = [f'{what}{k}' for what in ('scores', 'deltas')
                 for k in range(half)]  # yapf: disable
        self.head = self._graph('head', graph, {
            f'level{k}': one
            for k, one in enumerate(levels)
        }, dict(zip(names, made)))

    def _write_fill(self, index: int, state: Any) -> None:
        """The graph that fills in what is missing at an exit."""
        graph = Fill(self.model, index)
        names = [f'fill{index}_map{i}' for i in graph.fill.missing]
        given = {f'map{index + 2}': state.x, f'z{index}': state.z}
        self.fills.append(
            self._graph(f'fill{index}', graph, given,
                        dict(zip(names, graph(*state)))))

    def _write_way(self, index: int, x: Tensor, z: Optional[Tensor],
                   names: List[str], state: Any,
                   finished: Dict[int, Tensor]) -> List[str]:
        """The graph from one exit to the next; names of what is behind."""
        last = index == len(halves_of(self.model)) - 1
        # The head reads it, or what comes next.
        maps = [
            i for i in finished
            if i in self._read or (finished[i] is state.x and not last)
        ]
        graph = Way(self.model, index, maps, not last)
        arguments = dict(zip(names, (x, ) if z is None else (x, z)))
        made = [f'logits{index}', *(f'map{i}' for i in maps)]
        made += [] if last else [f'z{index}']
        results = dict(zip(made, graph(x, z)))
        self.segments.append(
            self._graph(f'segment{index}', graph, arguments, results))
        # At exit k the feature maps up to X_(k + 2) are there.
        self.levels.append([
            f'map{i}' if last or i <= index + 2 else f'fill{index}_map{i}'
            for i in self._read
        ])
        return [f'map{index + 2}', f'z{index}']

    def _graph(self, name: str, graph: nn.Module, given: Mapping[str, Tensor],
               made: Mapping[str, Tensor]) -> Segment:
        """Write one graph."""
        maps = [k for k, v in {**given, **made}.items() if v.ndim == 4]
        segment = write_onnx(graph, given, list(made), self.folder, name,
                             self.opset, maps)
        for key, tensor in (*given.items(), *made.items()):
            if key in made or key in segment.inputs:
                self._add(key, tensor)
        return segment

    def _add(self, name: str, tensor: Tensor) -> None:
        """Note the shape of a tensor; maps may have any size."""
        places = [None, None] if tensor.ndim == 4 else tensor.shape[2:]
        self.tensors[name] = ['batch', tensor.shape[1], *places]


@torch.no_grad()
def _verify(model: Any, writer: _Writer, folder: str, step: int) -> float:
    """Compare the graphs in ONNX Runtime with the detector in PyTorch.

    At each exit, for batches of 1 and 3 of other sizes than those traced. It
    returns the largest difference of an output, divided by the largest one
    where that exceeds 1; RuntimeError, if it is larger than MAX_DIFFERENCE.
    """
    sessions = {
        one.file:
        open_session('onnxruntime', os.path.join(folder, one.file),
                     one.outputs, None, 'fp32')
        for one in (*writer.segments, *writer.fills, writer.head)
    }
    generator = torch.Generator().manual_seed(0)
    worst = 0.
    for batch, size in zip((1, 3), SIZES):
        images = torch.randn(
            batch, 3, *(step * k for k in size), generator=generator)
        tensors = dict(images=images.numpy())

        def run(graph: Segment, given: Mapping[str, Any]) -> Dict[str, Any]:
            feeds = {name: given[name] for name in graph.inputs}
            return dict(zip(graph.outputs, sessions[graph.file].run(feeds)))

        for index, (logits, expected) in enumerate(_exits(model, images)):
            found = run(writer.segments[index], tensors)
            tensors.update(found)
            if index < len(writer.fills):
                tensors.update(run(writer.fills[index], tensors))
            levels = dict(
                zip(writer.head.inputs, map(tensors.get,
                                            writer.levels[index])))
            outputs = list(run(writer.head, levels).values())
            for one, other in zip((found[f'logits{index}'], *outputs),
                                  (logits, *expected)):
                difference = np.abs(one - other.numpy()).max()
                difference /= max(1, other.abs().max().item())
                # NaN compares as neither.
                worst = max(worst,
                            float(np.nan_to_num(difference, nan=np.inf)))
    if not worst <= MAX_DIFFERENCE:
        raise RuntimeError(
            f'the exported graphs give other results than PyTorch: they '
            f'differ by up to {worst:.3g}, allowed are {MAX_DIFFERENCE:g}')
    return worst


def _exits(model: Any, images: Tensor) -> Any:
    """What is decided on at each exit, and what the head says there."""
    if not hasattr(model, '_walk'):
        scores, deltas = model.bbox_head(model.neck(model.backbone(images)))
        yield images.new_zeros(len(images), 1), (*scores, *deltas)
        return
    for maps, logits in model._walk(images):
        scores, deltas = model.bbox_head(model._feats(maps))
        yield logits, (*scores, *deltas)
