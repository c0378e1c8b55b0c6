# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What an exported folder says of itself, and whether it is whole."""
import dataclasses
import hashlib
import json
import math
import os
import reprlib
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Optional, Union

from ..io.atomic import write_json
from ..io.checksums import content_sha256, file_sha256
from .graphs import Graph, read_graph, read_regular
from .manifest_schema import check_manifest

__all__ = ['Detection', 'FORMAT', 'MANIFEST', 'Manifest', 'Segment']

MANIFEST = 'manifest.json'
# Raised when folders can no longer be read by an older runner.
FORMAT = 1
# A thousand classes take 50 kB.
MAX_BYTES = 1 << 26


@dataclass
class Segment:
    """The graph of the work between two exits, its classifier included.

    Tensors have names that are unique in the folder, so a runner keeps what
    it has by name: ``x0`` stays valid until a segment takes ``x1``.

    Args:
        file (str): File of the ONNX graph.
        inputs (list[str]): Tensors that it takes: ``images``, or what
            earlier segments returned.
        outputs (list[str]): Tensors that it returns, the logits first.
    """

    file: str
    inputs: List[str]
    outputs: List[str]


@dataclass
class Detection:
    """What a detector has behind its segments.

    Args:
        fills (list[Segment]): For each exit but the last, the graph that makes
            the levels that an image lacks there.
        head (Segment): The graph of neck and head; it returns scores of all
            levels, then coded boxes.
        levels (list[list[str]]): For each exit, the tensors that are the
            inputs of the head, in their order.
        boxes (dict): See :class:`~mmdynperceiver.deploy.boxes.BoxDecoder`.
    """

    fills: List[Segment]
    head: Segment
    levels: List[List[str]]
    boxes: Dict[str, Any]


@dataclass
class Manifest:
    """Everything about an exported network but its graphs.

    Args:
        segments (list[Segment]): Shallow to deep, one for each exit.
        tensors (dict[str, list]): For each tensor its shape; the first
            number, that of the samples, is the text 'batch'.
        preprocessing (dict): See :class:`Preprocessing`.
        policy (dict): ``thresholds``, ``criterion`` and ``temperature``.
        classes (list[str]): Names of the classes.
        macs_per_exit (list[int]): Cumulative MACs of one image.
        precision (str): 'fp32' or 'int8'. Defaults to 'fp32'.
        source (dict): Config, checkpoint and their checksums.
        versions (dict): What it was exported with.
        quantization (dict, optional): How it was quantised, and what that
            cost in accuracy. Defaults to None.
        certificate (dict, optional): What the policy promises on images to
            come. Defaults to None.
        detection (Detection, optional): What follows the segments of a
            detector. Defaults to None, a classifier.
        sha256 (dict[str, str]): Checksum of each graph's file.
    """

    segments: List[Segment]
    tensors: Dict[str, List[Any]]
    preprocessing: Dict[str, Any]
    policy: Dict[str, Any]
    classes: List[str]
    macs_per_exit: List[int]
    precision: str = 'fp32'
    source: Dict[str, Any] = field(default_factory=dict)
    versions: Dict[str, Any] = field(default_factory=dict)
    quantization: Optional[Dict[str, Any]] = None
    certificate: Optional[Dict[str, Any]] = None
    detection: Optional[Detection] = None
    sha256: Dict[str, str] = field(default_factory=dict)

    @property
    def num_exits(self) -> int:
        """Number of exits."""
        return len(self.segments)

    @property
    def graphs(self) -> List[Segment]:
        """All graphs: the segments, and what a detector has behind them."""
        more = self.detection
        return self.segments if more is None else [
            *self.segments, *more.fills, more.head
        ]

    def check_kind(self, folder: Union[str, os.PathLike],
                   detects: bool) -> None:
        """ValueError, if it is one of the other kind, which another class
        runs: a classifier where a detector is asked for, or a detector."""
        if detects != (self.detection is not None):
            kind, name = ('classifier', 'Runner') if detects else ('detector',
                                                                   'Detector')
            raise ValueError(f'{os.fspath(folder)!r} holds a {kind}: '
                             f'mmdynperceiver.deploy.{name}, or python -m '
                             f'mmdynperceiver.deploy, runs it')

    def save(self, folder: Union[str, os.PathLike]) -> None:
        """Write the manifest beside the graphs, with all checksums.

        Raises:
            OSError: If it cannot be written.
            ValueError: If there is something in it that no runner takes.
        """
        self.sha256 = {
            segment.file: file_sha256(os.path.join(folder, segment.file))
            for segment in self.graphs
        }
        content = dict(format=FORMAT, **dataclasses.asdict(self))
        if self.certificate is None:
            del content['certificate']  # older runners do not know it
        if self.detection is None:
            del content['detection']
        # As it will be read: NumPy's numbers and tuples are none any more.
        content = json.loads(json.dumps(content, default=_plain))
        check_manifest(content)
        content['manifest_sha256'] = content_sha256(content)
        write_json(os.path.join(folder, MANIFEST), content)

    @classmethod
    def load(cls, folder: Union[str, os.PathLike]) -> 'Manifest':
        """Read the manifest, and check it and every file it names.

        Args:
            folder (str | PathLike): An exported folder.

        Raises:
            FileNotFoundError: If the folder, its manifest or a graph is not
                there.
            ValueError: If a file was changed after the export, the folder
                is of a newer version, or something in it does not fit.
        """
        manifest = cls.read(folder)
        manifest.read_graphs(folder)
        return manifest

    @classmethod
    def read(cls, folder: Union[str, os.PathLike]) -> 'Manifest':
        """Read and check the manifest alone; see :meth:`load`."""
        folder = os.fspath(folder)
        content = _read(folder)
        given = content.get('format')
        if type(given) is not int or given != FORMAT:
            raise ValueError(
                f'{folder!r} has the format {reprlib.repr(given)}, and '
                f'this version of mmdynperceiver reads {FORMAT}: export it '
                f'again, or use the version that wrote it')
        if content.pop('manifest_sha256', None) != content_sha256(content):
            raise ValueError(
                f'{MANIFEST} in {folder!r} was changed after the export: '
                f'export again; other thresholds can be given to the runner')
        try:
            check_manifest(content)
        except ValueError as error:
            raise ValueError(f'{MANIFEST} in {folder!r}: {error}') from error
        del content['format']
        segments = [Segment(**entry) for entry in content.pop('segments')]
        more = content.pop('detection', None)
        if more is not None:
            fills = [Segment(**entry) for entry in more.pop('fills')]
            more = Detection(fills, Segment(**more.pop('head')), **more)
        return cls(segments=segments, detection=more, **content)

    def read_graphs(self, folder: Union[str, os.PathLike]) -> List[Graph]:
        """Read and check the graph of each segment; see :meth:`load`.

        What was checked is what they hold, whatever happens to the files.
        """
        return [
            self.read_graph(folder, index)
            for index in range(len(self.graphs))
        ]

    def _handed_on(self) -> FrozenSet[str]:
        """Tensors between segments that are no logits. A detector reads those
        of its segments."""
        if self.detection is not None:
            return frozenset()
        taken = {name for s in self.segments for name in s.inputs}
        return frozenset(name for s in self.segments
                         for name in s.outputs[1:]).intersection(taken)

    def read_graph(self, folder: Union[str, os.PathLike], index: int) -> Graph:
        """Read and check one graph, given by its number."""
        segment = self.graphs[index]
        folder, file = os.fspath(folder), segment.file
        try:
            content = read_regular(os.path.join(folder, file))
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{folder!r} is incomplete: {file} is missing; copy the '
                f'whole folder, or export again') from None
        if hashlib.sha256(content).hexdigest() != self.sha256[file]:
            raise ValueError(
                f'{file} in {folder!r} was changed after the export (its '
                f'SHA-256 is another): copy the folder once more, or export '
                f'again')
        graph = read_graph(file, content)
        for what, found, said in (('takes', sorted(graph.inputs),
                                   sorted(segment.inputs)),
                                  ('returns', list(graph.outputs),
                                   segment.outputs)):
            if found != said:
                raise ValueError(
                    f'{file} in {folder!r} {what} {", ".join(found)}, and '
                    f'{MANIFEST} says {", ".join(said)}: export again')
        return graph._replace(
            handed_on=self._handed_on().intersection((*segment.inputs,
                                                      *segment.outputs)))


def _plain(value: Any) -> Any:
    """What JSON can hold of a NumPy array, or a number of NumPy or torch."""
    if hasattr(value, 'tolist'):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f'a manifest cannot hold a {type(value).__name__}')


def _read(folder: str) -> Dict[str, Any]:
    """The content of the manifest."""
    path = os.path.join(folder, MANIFEST)
    try:
        text = read_regular(path, MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f'{folder!r} is no exported folder: it has no {MANIFEST}; '
            f'tools/export.py writes one') from None
    try:
        content = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_constant=_finite)
    except RecursionError as error:
        raise ValueError(f'{path!r} is not JSON of an export: it is nested '
                         f'too deeply') from error
    except ValueError as error:  # JSON or text encoding
        raise ValueError(f'{path!r} is not JSON: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path!r} must hold an object, got '
                         f'{type(content).__name__}')
    return content


def _unique(pairs: List[Any]) -> Dict[str, Any]:
    """An object; readers would differ in which of two values they take."""
    content: Dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f'{reprlib.repr(name)} is there more than once')
        content[name] = value
    return content


def _finite(digits: str) -> float:
    """A number with a point or an exponent; NaN and Infinity are not JSON."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f'{reprlib.repr(digits)} is too large' if digits[-1].
                         isdecimal() else f'{digits} is no number')
    return value
