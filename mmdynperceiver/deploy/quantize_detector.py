# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Static quantisation of a detector to 8 bits, and what it costs."""
import contextlib
import os
from typing import (Any, Dict, Iterator, List, Mapping, Optional, Sequence,
                    Tuple)

import numpy as np

from .boxes import Boxes, overlaps
from .detection import AnnotatedImages, Detector
from .manifest import Manifest
from .policy import Policy
from .quantize import iter_prepared, quantize_graph, spread
from .sessions import open_session

__all__ = ['agreement', 'quantize_detector']

# Boxes of less are not compared, and those of a class that overlap by so much
# are the same one.
LEAST_SCORE, SAME = 0.3, 0.5

_Found = List[Tuple[str, List[Boxes]]]


def quantize_detector(folder: str, manifest: Manifest, images: Sequence[str],
                      test: Optional[AnnotatedImages]) -> Dict[str, Any]:
    """Quantise the graphs of a detector in place, and measure what that does
    at each exit.

    What exits decide by, and the last layers of the head, stay in fp32.

    Args:
        folder (str): Where the graphs are.
        manifest (Manifest): Of the graphs before; it need not be saved.
        images (Sequence[str]): Files that show what activations look like.
        test (AnnotatedImages, optional): What to measure on; None measures
            how far boxes agree on ``images``.

    Returns:
        dict: Counts of images, and for each exit ``agreement``, see
        :func:`agreement`; with test images also ``fp32`` and ``int8``, the box
        AP in percent.
    """
    files = list(images if test is None else test.files)
    chosen = spread(images)
    broken: Dict[str, str] = {}
    exact = _open(folder, manifest)
    before = _detect(exact, files, broken)
    for place, graph in enumerate(manifest.graphs):
        quantize_graph(
            os.path.join(folder, graph.file),
            _feeds(exact, place, chosen, broken))
    used = sum(path not in broken for path in chosen)
    after = _detect(_open(folder, manifest), files, broken)
    rows: List[Dict[str, Any]] = []
    for index in range(manifest.num_exits):
        pair = [[(path, boxes[index]) for path, boxes in found]
                for found in (before, after)]
        rows.append(
            dict(
                agreement=agreement(*([boxes for _, boxes in found]
                                      for found in pair))))
        if test is not None:
            for name, found in zip(('fp32', 'int8'), pair):
                rows[-1][name] = 100 * test.precision(found)
    return dict(
        calibration_images=used,
        test_images=len(before),
        broken_images=len(files) - len(before),
        exits=rows)


def agreement(before: Sequence[Boxes], after: Sequence[Boxes]) -> float:
    """How far boxes agree, from 0 to 1, over all images.

    Of the boxes of both with a score of at least ``LEAST_SCORE``, the share
    that have one of the same class, for each its own, in the other, where the
    two overlap by at least ``SAME`` of their union; 1 where there are none.
    """
    same = total = 0
    for pair in zip(before, after):
        one, other = (
            Boxes(*(part[boxes.scores >= LEAST_SCORE] for part in boxes))
            for boxes in pair)
        total += len(one.boxes) + len(other.boxes)
        shared = overlaps(one.boxes, other.boxes)
        shared[one.labels[:, None] != other.labels] = 0
        # The surest first.
        for row in shared if shared.size else ():
            if row.max() >= SAME:
                same += 2
                shared[:, row.argmax()] = 0
    return same / total if total else 1.


def _open(folder: str, manifest: Manifest) -> Detector:
    """The detector of these graphs."""
    sessions = [
        _Recorded(
            open_session('onnxruntime', os.path.join(folder, graph.file),
                         graph.outputs)) for graph in manifest.graphs
    ]
    return Detector(manifest, sessions, Policy(manifest.num_exits))


class _Recorded:
    """A session that keeps what it was given last."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.feeds: Dict[str, np.ndarray] = {}

    def run(self,
            feeds: Mapping[str, np.ndarray],
            held: Optional[contextlib.ExitStack] = None) -> List[np.ndarray]:
        """Compute the outputs."""
        self.feeds = dict(feeds)
        return self._session.run(feeds, held)


def _detect(detector: Detector, files: Sequence[str],
            broken: Dict[str, str]) -> _Found:
    """The boxes of each exit in the files that can be read."""
    found = []
    for path, prepared in iter_prepared(detector.preprocessing, files, broken):
        batch = detector.batch_of([prepared])
        found.append((path, [
            detector.predict(batch, detector.leave_at(index)).boxes[0]
            for index in range(detector.num_exits)
        ]))
    return found


def _feeds(detector: Detector, place: int, files: Sequence[str],
           broken: Dict[str, str]) -> Iterator[Dict[str, np.ndarray]]:
    """What the graph at a place of the manifest is given in these files.

    Not all graphs' at once: maps of images of this size are large.
    """
    count = detector.num_exits
    # Neck and head are behind each exit, the others on the way to one.
    exits = range(count) if place == 2 * count - 1 else [place % count]
    images = iter_prepared(detector.preprocessing, files, broken)
    for number, (_, prepared) in enumerate(images):
        policy = detector.leave_at(exits[number % len(exits)])
        detector.outputs(detector.batch_of([prepared]).pixels, policy)
        yield detector.sessions[place].feeds
