# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Static quantisation to 8 bits, and what it costs in accuracy."""
import logging
import os
import tempfile
from collections import Counter
from itertools import islice
from typing import (Any, Dict, Iterable, Iterator, List, Optional, Sequence,
                    Tuple)

import numpy as np
import onnx
from onnxruntime.quantization import (CalibrationDataReader, QuantFormat,
                                      QuantType, quantize_static)

from ..datasets.image_files import FILE_ERRORS
from ..io.describe import one_line
from .manifest import Segment
from .preprocessing import Preprocessing, list_images
from .printing import Count
from .sessions import open_session
from .tracing import quiet

__all__ = [
    'compare', 'iter_prepared', 'labelled_images', 'quantize',
    'quantize_graph', 'quantize_segments', 'run_all', 'spread', 'unquantized'
]

LOGGER = logging.getLogger(__name__)
# So many images fix the ranges; more change little.
MAX_IMAGES = 256
BATCH = 8
# What 8 bits are used for; norms, attention and activations stay as they are.
OPERATORS = ['Conv', 'Gemm', 'MatMul']
# In the names of the layers that decide, who leaves and what is said of it:
# classifiers, and of a detector the heads of its exits and the last layers.
SPARED = ('classifiers', 'fkt', 'gains', 'retina_')


class _Feeds(CalibrationDataReader):
    """Hands collected inputs to the calibrator."""

    def __init__(self, feeds: Iterable[Dict[str, np.ndarray]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Optional[Dict[str, np.ndarray]]:
        """The next inputs, None behind the last."""
        return next(self._feeds, None)


def quantize(folder: str, segments: Sequence[Segment],
             preprocessing: Preprocessing, classes: Sequence[str],
             images: Sequence[str], test: Optional[str]) -> Dict[str, Any]:
    """Quantise graphs in place, and measure what that does to each exit.

    Args:
        folder (str): Where the graphs are.
        segments (Sequence[Segment]): Shallow to deep.
        preprocessing (Preprocessing): Prepares the images.
        classes (Sequence[str]): Names of the classes.
        images (Sequence[str]): Files that show what activations look like.
        test (str, optional): Folder with images in a folder for each class;
            None measures on ``images``.

    Returns:
        dict: Counts of images, and for each exit what :func:`compare` says.
    """
    files, labels = list(images), None
    if test is not None:
        files, labels = labelled_images(test, classes, preprocessing)
    broken: Dict[str, str] = {}

    def all_logits() -> List[np.ndarray]:
        parts = [
            logits for logits, _ in run_all(folder, segments, preprocessing,
                                            files, broken)
        ]
        return [np.concatenate(exit_logits) for exit_logits in zip(*parts)]

    before = all_logits()
    used = quantize_segments(folder, segments, preprocessing, images)
    if labels is not None:
        labels = [k for file, k in zip(files, labels) if file not in broken]
    return dict(
        calibration_images=used,
        test_images=len(before[0]),
        broken_images=len(broken),
        exits=compare(before, all_logits(), labels))


def quantize_segments(folder: str, segments: Sequence[Segment],
                      preprocessing: Preprocessing,
                      images: Sequence[str]) -> int:
    """Quantise graphs in place; the classifiers of the exits stay in fp32.

    Confidences decide who leaves, so that the layers they come from are
    spared; these cost next to nothing. Takes what :func:`quantize` does, and
    says how many images were used.
    """
    chosen = spread(images)
    broken: Dict[str, str] = {}
    batches = [
        inputs for _, inputs in run_all(folder, segments, preprocessing,
                                        chosen, broken)
    ]
    for segment, feeds in zip(segments, zip(*batches)):
        quantize_graph(os.path.join(folder, segment.file), feeds)
    return sum(path not in broken for path in chosen)


def spread(images: Sequence[str]) -> List[str]:
    """At most ``MAX_IMAGES`` of them, evenly from the whole."""
    step = max(1, len(images) / MAX_IMAGES)
    return [images[int(k * step)] for k in range(min(MAX_IMAGES, len(images)))]


def quantize_graph(path: str, feeds: Iterable[Dict[str, np.ndarray]]) -> None:
    """Quantise a graph in place, by inputs that show what its activations
    look like."""
    spared = unquantized(onnx.load(path).graph)
    with tempfile.TemporaryDirectory() as other:
        result = os.path.join(other, os.path.basename(path))
        with quiet():
            quantize_static(
                path,
                result,
                _Feeds(feeds),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATORS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=spared)
        onnx.save(onnx.load(result), path)


def unquantized(graph: onnx.GraphProto) -> List[str]:
    """Nodes that stay in fp32: those of ``SPARED``, and attention without a
    node.

    In older operator sets, attention is products of two activations.
    """
    constants = {entry.name for entry in graph.initializer}
    constants.update(node.output[0] for node in graph.node
                     if node.op_type == 'Constant')
    return [
        node.name for node in graph.node
        if any(part in node.name for part in SPARED) or
        (node.op_type == 'MatMul' and not constants.intersection(node.input))
    ]


def run_all(
    folder: str, segments: Sequence[Segment], preprocessing: Preprocessing,
    images: Sequence[str], broken: Dict[str, str]
) -> Iterator[Tuple[List[np.ndarray], List[Dict[str, np.ndarray]]]]:
    """Run all exits on image files, in batches; see :func:`iter_prepared`.

    Yields:
        tuple: The logits (B, K) of each exit, and the inputs of each segment
        by name.
    """
    sessions = [
        open_session('onnxruntime', os.path.join(folder, segment.file),
                     segment.outputs, None, 'fp32') for segment in segments
    ]
    prepared = iter_prepared(preprocessing, images, broken)
    for batch in iter(lambda: list(islice(prepared, BATCH)), []):
        tensors: Dict[str, np.ndarray] = dict(
            images=np.stack([pixels for _, pixels in batch]))
        inputs = []
        for segment, session in zip(segments, sessions):
            feed = {name: tensors[name] for name in segment.inputs}
            tensors.update(zip(segment.outputs, session.run(feed)))
            inputs.append(feed)
        yield [tensors[s.outputs[0]] for s in segments], inputs


def iter_prepared(preprocessing: Preprocessing, images: Sequence[str],
                  broken: Dict[str, str]) -> Iterator[Tuple[str, Any]]:
    """Each image file, and what is prepared of it.

    Those that cannot be read go to ``broken``, with what is wrong with each;
    ValueError, if there are no others.
    """
    noun = preprocessing.files.noun
    if not images:
        raise ValueError(f'there are no {noun}s to quantise or test by')
    count = Count(len(images), f'{noun}s')
    for number, image in enumerate(images):
        count.show(number)
        try:
            prepared = preprocessing(image)
        except FILE_ERRORS as error:
            if image not in broken:
                count.clear()
                LOGGER.warning('skipped: %s', one_line(error))
            broken[image] = one_line(error)
            continue
        yield image, prepared
    count.clear()
    if all(image in broken for image in images):
        raise ValueError(f'none of the {len(images)} {noun}s can be read; '
                         f'the first: {broken[images[0]]}')


def labelled_images(folder: str,
                    classes: Sequence[str],
                    kind: Any = Preprocessing) -> Tuple[List[str], List[int]]:
    """Files of a kind in one folder for each class, and their labels.

    Raises:
        ValueError: If an image is in no such folder.
    """
    counts = Counter(classes)
    numbers = {name: label for label, name in enumerate(classes)}
    files, labels = list_images(folder, kind.files), []
    for file in files:
        name = os.path.relpath(file, folder).split(os.sep)[0]
        if counts[name] != 1:
            times = 'more than one' if counts[name] else 'no'
            raise ValueError(f'{file!r} is in a folder {name!r}, which is '
                             f'{times} class of the network: '
                             f'{", ".join(map(repr, classes[:5]))}'
                             f'{", ..." if len(classes) > 5 else ""}')
        labels.append(numbers[name])
    return files, labels


def compare(before: Sequence[np.ndarray], after: Sequence[np.ndarray],
            labels: Optional[Sequence[int]]) -> List[Dict[str, Any]]:
    """What quantisation did to each exit's logits (N, K).

    Returns:
        list[dict]: For each exit ``agreement``, the share of images with the
        same prediction, and with labels ``fp32`` and ``int8``, the
        accuracies in percent.
    """
    rows = []
    for exact, rounded in zip(before, after):
        predictions = exact.argmax(1), rounded.argmax(1)
        row = dict(agreement=float((predictions[0] == predictions[1]).mean()))
        if labels is not None:
            for name, predicted in zip(('fp32', 'int8'), predictions):
                row[name] = 100 * float((predicted == labels).mean())
        rows.append(row)
    return rows
