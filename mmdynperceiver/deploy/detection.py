# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run an exported detector: boxes, with real early exit, without torch."""
import os
import time
from contextlib import ExitStack
from typing import (Any, Dict, Iterator, List, NamedTuple, Optional, Sequence,
                    Tuple, Union)

import numpy as np

from ..datasets.image_files import Broken
from .boxes import BoxDecoder, Boxes
from .manifest import Manifest
from .policy import Policy
from .preprocessing import Image, Preprocessing, pad_to
from .sessions import Sessions, check_outputs
from .stream import Classified, in_batches

__all__ = [
    'Detected', 'DetectionPreprocessing', 'Detector', 'Prepared',
    'detect_files'
]


class Prepared(NamedTuple):
    """An image for a detector: normalised and padded pixels (3, H, W); height
    and width without padding; and how much wider and higher it is than the
    file was."""

    pixels: np.ndarray
    size: Tuple[int, int]
    scale: Tuple[float, float]


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

    def prepare(self, image: Image) -> Prepared:
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


class Detector:
    """An exported detector with its images' preprocessing and its policy.

    It may be called in several threads at once; copies and forked processes
    open the folder again. See :class:`~mmdynperceiver.deploy.Runner`.

    Example:
        >>> detector = Detector.load('exported/')           # doctest: +SKIP
        >>> for found in detector(['street.jpg']):          # doctest: +SKIP
        ...     print(found.boxes, found.names, found.exit_index)
    """

    monitor = None

    def __init__(self, manifest: Manifest, sessions: Sequence[Any],
                 policy: Policy) -> None:
        assert manifest.detection is not None
        self.manifest = manifest
        self.sessions = sessions
        self.policy = policy
        self.preprocessing = DetectionPreprocessing(**manifest.preprocessing)
        self.decode = BoxDecoder(**manifest.detection.boxes)

    @classmethod
    def load(cls,
             folder: Union[str, os.PathLike],
             runtime: str = 'onnxruntime',
             threads: Optional[int] = None,
             precision: str = 'fp32',
             thresholds: Optional[Sequence[float]] = None) -> 'Detector':
        """Open a folder that ``tools/export.py`` wrote of a detector.

        For arguments and errors see
        :meth:`mmdynperceiver.deploy.Runner.load`.
        """
        manifest = Manifest.read(folder)
        if manifest.detection is None:
            raise ValueError(f'{os.fspath(folder)!r} holds a classifier, and '
                             f'no detector: mmdynperceiver.deploy.Runner '
                             f'runs it')
        settings = dict(manifest.policy)
        if thresholds is not None:
            settings['thresholds'] = thresholds
        detector = cls(manifest,
                       Sessions(folder, manifest, runtime, threads, precision),
                       Policy(manifest.num_exits, **settings))
        smallest = pad_to((64, 64), detector.preprocessing.padding)
        never = Policy(manifest.num_exits, criterion=settings['criterion'])
        detector.outputs(np.zeros((1, 3, *smallest), np.float32), never)
        return detector

    def __call__(self,
                 images: Union[Image, Sequence[Image]],
                 batch_size: int = 1) -> List[Detected]:
        """Detect in images.

        Args:
            images: As for :meth:`mmdynperceiver.deploy.Runner.__call__`.
            batch_size (int): How many run together, padded to the largest of
                them. Defaults to 1.

        Returns:
            list[Detected]: In the order of the images.

        Raises:
            FileNotFoundError: If there is no such file, or no image.
            ValueError: If an image cannot be read, or ``batch_size`` is not
                positive.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got '
                             f'{batch_size}')
        items = self.preprocessing.listed(images)
        found: List[Detected] = []
        for start in range(0, len(items), batch_size):
            chosen = items[start:start + batch_size]
            found += self.detect(chosen, [self.prepare(one) for one in chosen])
        return found

    def prepare(self, image: Image) -> Tuple[Prepared, float]:
        """An image for the detector, and milliseconds."""
        start = time.perf_counter()
        prepared = self.preprocessing.prepare(image)
        return prepared, 1000 * (time.perf_counter() - start)

    def detect(self, items: Sequence[Image],
               prepared: Sequence[Tuple[Prepared, float]]) -> List[Detected]:
        """Detect in images that are prepared, as one batch."""
        ready, preparing = zip(*prepared)
        edges = np.max([one.pixels.shape[1:] for one in ready], 0)
        batch = np.stack([
            np.pad(one.pixels, ((0, 0), *((0, most - have) for most, have in
                                          zip(edges, one.pixels.shape[1:]))))
            for one in ready
        ])  # yapf: disable
        start = time.perf_counter()
        outputs, exit_index, confidence = self.outputs(batch, self.policy)
        half = len(outputs) // 2
        boxes = [
            self.decode([one[row] for one in outputs[:half]],
                        [one[row]
                         for one in outputs[half:]], image.size, image.scale)
            for row, image in enumerate(ready)
        ]
        spent = 1000 * (time.perf_counter() - start)
        return [
            self._result(item, found, int(index), float(conf), spent, before)
            for item, found, index, conf, before in zip(
                items, boxes, exit_index, confidence, preparing)
        ]

    def _result(self, item: Image, found: Boxes, index: int, conf: float,
                spent: float, preparing: float) -> Detected:
        """What one image gets."""
        path = os.fspath(item) if isinstance(item,
                                             (str, os.PathLike)) else None
        names = [self.manifest.classes[label] for label in found.labels]
        return Detected(path, *found, names, index, conf,
                        self.manifest.macs_per_exit[index], spent, preparing)

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


def detect_files(detector: Detector,
                 paths: Sequence[str],
                 batch_size: int = 1,
                 on_broken: str = 'skip') -> Iterator[Classified]:
    """Detect in files, in batches, whatever some of them hold; see
    :func:`mmdynperceiver.deploy.stream.classify_files`."""

    def prepare(path: str) -> Tuple[str, Tuple[Prepared, float]]:
        return path, detector.prepare(path)

    def run(ready: List[Any], broken: List[Broken]) -> Classified:
        found = detector.detect(*zip(*ready)) if ready else []
        return Classified(found, broken, found[0].milliseconds if found else 0)

    return in_batches(paths, prepare, run, batch_size, on_broken)
