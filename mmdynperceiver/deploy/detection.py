# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run an exported detector: boxes, with real early exit, without torch."""
import time
from contextlib import ExitStack
from typing import (Any, Callable, Dict, List, NamedTuple, Optional, Sequence,
                    Set, Tuple)

import numpy as np

from .boxes import BoxDecoder, Boxes
from .exported import ExportedNetwork
from .manifest import Manifest
from .policy import Policy
from .preprocessing import Image, Preprocessing, pad_to
from .results import sizes_met
from .sessions import check_outputs

__all__ = [
    'AnnotatedImages', 'Detected', 'DetectionOutcome',
    'DetectionPreprocessing', 'Detector', 'Prepared', 'PreparedBatch'
]


class Prepared(NamedTuple):
    """An image for a detector: normalised and padded pixels (3, H, W); height
    and width without padding; and how much wider and higher it is than the
    file was."""

    pixels: np.ndarray
    size: Tuple[int, int]
    scale: Tuple[float, float]


class PreparedBatch(NamedTuple):
    """Images as one batch (B, 3, H, W), padded to the largest of them, and of
    each what :class:`Prepared` says."""

    pixels: np.ndarray
    sizes: Sequence[Tuple[int, int]]
    scales: Sequence[Tuple[float, float]]


class DetectionPreprocessing(Preprocessing):
    """Decode, resize, normalise and pad images of any size.

    Args:
        padding (int): Height and width become multiples of it, by zeros
            below and on the right.
        **settings: As of :class:`Preprocessing`, whose ``size`` is only that
            of which the manifest tells the MACs.
    """

    def __init__(self, padding: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.padding = padding

    def __call__(self, image: Image) -> Prepared:  # type: ignore[override]
        """Prepare one image; see :class:`Preprocessing` for what is taken and
        refused."""
        before, name = self.pixels(image)
        resized = self.resized(before, name)
        height, width = resized.shape[:2]
        chw = self.scaled(resized)
        rows, columns = pad_to((height, width), self.padding)
        padded = np.pad(chw,
                        ((0, 0), (0, rows - height), (0, columns - width)))
        return Prepared(padded, (height, width),
                        (width / before.shape[1], height / before.shape[0]))


class DetectionOutcome(NamedTuple):
    """What a batch gets: boxes of each image, where it left (B,), 0-based, how
    sure (B,), and the milliseconds of the whole batch, for each (B,)."""

    boxes: List[Boxes]
    exit_index: np.ndarray
    confidence: np.ndarray
    milliseconds: np.ndarray
    edges: Tuple[int, ...]

    def sizes(self) -> Set[tuple]:
        """The sizes of batches that it took, images' height and width
        included."""
        return sizes_met(self.exit_index, *self.edges)


class Detected(NamedTuple):
    """What one image gets.

    Args:
        path (str, optional): Its file; None for an image in memory.
        boxes (ndarray): Boxes (N, 4), the surest first: x1, y1, x2, y2, in
            pixels of the image as it was.
        scores (ndarray): Scores (N,).
        labels (ndarray): Numbers of the classes (N,).
        names (list[str]): Names of the classes.
        exit_index (int): Where it left, 0-based.
        confidence (float): Confidence there.
        macs (int): Multiply-adds of an image that leaves there, of the size
            in the manifest's preprocessing.
        milliseconds (float): Of its batch, from normalised pixels to boxes.
        preparing_milliseconds (float): Decoding, resizing and normalising.
    """

    path: Optional[str]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: List[str]
    exit_index: int
    confidence: float
    macs: int
    milliseconds: float
    preparing_milliseconds: float

    @property
    def name(self) -> str:
        """How many boxes there are, and the class of the surest."""
        return f'{len(self.names)} boxes, {self.names[0]}' if self.names \
            else 'no box'

    @property
    def score(self) -> float:
        """The score of the surest box, 0 without any."""
        return float(self.scores[0]) if len(self.scores) else 0.

    def row(self) -> Dict[str, Any]:
        """What is written of it."""
        return dict(
            self._asdict(), **{
                name: getattr(self, name).tolist()
                for name in ('boxes', 'scores', 'labels')
            })


class AnnotatedImages(NamedTuple):
    """Images to test a detector by.

    Args:
        files (Sequence[str]): The images.
        precision (Callable): Pairs of a file and the boxes found in it -> box
            AP in [0, 1].
    """

    files: Sequence[str]
    precision: Callable[[Sequence[Tuple[str, Boxes]]], float]


class Detector(ExportedNetwork):
    """An exported detector.

    Example:
        >>> detector = Detector.load('exported/')           # doctest: +SKIP
        >>> for found in detector(['street.jpg']):          # doctest: +SKIP
        ...     print(found.boxes, found.names, found.exit_index)
    """

    detects = True

    def __init__(self, manifest: Manifest, sessions: Sequence[Any],
                 policy: Policy) -> None:
        assert manifest.detection is not None
        super().__init__(manifest, sessions, policy)
        self.preprocessing = DetectionPreprocessing(**manifest.preprocessing)
        self.decode = BoxDecoder(**manifest.detection.boxes)

    def try_out(self) -> None:
        """Run each graph once."""
        smallest = pad_to((64, 64), self.preprocessing.padding)
        for index in range(self.num_exits):
            self.outputs(
                np.zeros((1, 3, *smallest), np.float32), self.leave_at(index))

    def batch_of(self, prepared: Sequence[Prepared]) -> PreparedBatch:
        """Images as one batch."""
        pixels, sizes, scales = zip(*prepared)
        edges = np.max([one.shape[1:] for one in pixels], 0)
        padded = np.stack([
            np.pad(one, ((0, 0), *((0, most - have) for most, have in
                                   zip(edges, one.shape[1:]))))
            for one in pixels
        ])  # yapf: disable
        return PreparedBatch(padded, sizes, scales)

    def normalised(self, pixels: np.ndarray) -> PreparedBatch:
        """Pixels (B, 3, H, W) as a batch of images that have this size."""
        count, height, width = len(pixels), *pixels.shape[2:]
        return PreparedBatch(pixels, [(height, width)] * count,
                             [(1., 1.)] * count)

    def predict(self,
                batch: PreparedBatch,
                policy: Optional[Policy] = None,
                stream: Optional['Detector'] = None,
                staged: bool = False) -> DetectionOutcome:
        """Detect in a batch; see :meth:`mmdynperceiver.deploy.Runner.predict`.
        Detectors are always run by segments."""
        start = time.perf_counter()
        outputs, exit_index, confidence = (stream or self).outputs(
            batch.pixels, policy or self.policy)
        half = len(outputs) // 2
        boxes = [
            self.decode([one[row] for one in outputs[:half]],
                        [one[row] for one in outputs[half:]], *image)
            for row, image in enumerate(zip(batch.sizes, batch.scales))
        ]
        spent = np.full(len(boxes), 1000 * (time.perf_counter() - start))
        return DetectionOutcome(boxes, exit_index, confidence, spent,
                                batch.pixels.shape[2:])

    def results(self, outcome: DetectionOutcome,
                paths: Sequence[Optional[str]],
                preparing: Sequence[float]) -> List[Detected]:
        """What each image of a batch gets."""
        found = []
        for path, boxes, exit_index, confidence, spent, before in zip(
                paths, outcome.boxes, outcome.exit_index, outcome.confidence,
                outcome.milliseconds, preparing):
            names = [self.manifest.classes[label] for label in boxes.labels]
            index = int(exit_index)
            found.append(
                Detected(path, boxes.boxes,
                         boxes.scores, boxes.labels, names, index,
                         float(confidence), self.manifest.macs_per_exit[index],
                         float(spent), before))
        return found

    def all_exits(self, batch: np.ndarray) -> List[np.ndarray]:
        """What the policy decides on (B, 1), at each exit, of normalised
        images (B, 3, H, W)."""
        tensors = dict(images=batch)
        with ExitStack() as held:
            return [
                self._run(index, tensors, held).copy()
                for index in range(self.num_exits)
            ]

    def outputs(
            self, batch: np.ndarray,
            policy: Policy) -> Tuple[List[np.ndarray], np.ndarray, np.ndarray]:
        """What the head returns for normalised images (B, 3, H, W), each run
        only as deep as the policy demands; where each left (B,), and how sure
        (B,)."""
        assert self.manifest.detection is not None
        head = self.manifest.detection.head
        count = len(batch)
        exit_index = np.empty(count, np.int64)
        confidence = np.empty(count, np.float32)
        levels: Dict[str, np.ndarray] = {}
        # Until this closes, nobody else gets the runtime's memory.
        with ExitStack() as held:
            tensors, memory = dict(images=batch), None
            rows = np.arange(count)
            for index in range(self.manifest.num_exits):
                logits = self._run(index, tensors, held)
                conf, leaves, memory = policy.decide(index, logits, memory)
                if leaves.any():
                    gone = rows[leaves]
                    exit_index[gone], confidence[gone] = index, conf[leaves]
                    self._finish(index, tensors, leaves, gone, levels, count,
                                 held)
                if leaves.all():
                    break
                rows = rows[~leaves]
                tensors = {k: value[~leaves] for k, value in tensors.items()}
                memory = None if memory is None else memory[~leaves]
            found = self._graph(-1, head, levels, held)
            return [one.copy() for one in found], exit_index, confidence

    def _run(self, index: int, tensors: Dict[str, np.ndarray],
             held: ExitStack) -> np.ndarray:
        """Run one segment; what the policy decides on (B, 1)."""
        segment = self.manifest.segments[index]
        found = self._graph(index, segment, tensors, held)
        tensors.pop('images', None)
        tensors.update(zip(segment.outputs, found))
        return found[0]

    def _finish(self, index: int, tensors: Dict[str, np.ndarray],
                leaves: np.ndarray, gone: np.ndarray, levels: Dict[str,
                                                                   np.ndarray],
                count: int, held: ExitStack) -> None:
        """Put the levels of images that leave at their places."""
        detection = self.manifest.detection
        assert detection is not None
        if not leaves.all():
            tensors = {k: value[leaves] for k, value in tensors.items()}
        if index < len(detection.fills):
            fill = detection.fills[index]
            found = self._graph(self.manifest.num_exits + index, fill, tensors,
                                held)
            tensors = dict(tensors, **dict(zip(fill.outputs, found)))
        for level, name in zip(detection.head.inputs, detection.levels[index]):
            value = tensors[name]
            if len(gone) == count:
                levels[level] = value
                continue
            if level not in levels:
                levels[level] = np.empty((count, *value.shape[1:]), np.float32)
            levels[level][gone] = value

    def _graph(self, place: int, graph: Any, tensors: Dict[str, np.ndarray],
               held: ExitStack) -> List[np.ndarray]:
        """Run one graph, the one at a place of the sessions."""
        feeds = {name: tensors[name] for name in graph.inputs}
        outputs = self.sessions[place].run(feeds, held)
        check_outputs(graph, len(next(iter(feeds.values()))), outputs,
                      self.manifest.tensors)
        return outputs
