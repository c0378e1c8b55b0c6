# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What an exported folder says of itself, and whether it is whole."""
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Union

from ..files import write_json

__all__ = ['FORMAT', 'MANIFEST', 'Manifest', 'Segment', 'file_sha256']

MANIFEST = 'manifest.json'
# Raised when folders can no longer be read by an older runner.
FORMAT = 1


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
    sha256: Dict[str, str] = field(default_factory=dict)

    @property
    def num_exits(self) -> int:
        """Number of exits."""
        return len(self.segments)

    def save(self, folder: Union[str, os.PathLike]) -> None:
        """Write the manifest beside the graphs, with all checksums.

        Args:
            folder (str | PathLike): Where the graphs are.

        Raises:
            OSError: If it cannot be written.
        """
        self.sha256 = {
            segment.file: file_sha256(os.path.join(folder, segment.file))
            for segment in self.segments
        }
        content = dict(format=FORMAT, **dataclasses.asdict(self))
        content['manifest_sha256'] = _digest(content)
        write_json(os.path.join(folder, MANIFEST), content)

    @classmethod
    def load(cls, folder: Union[str, os.PathLike]) -> 'Manifest':
        """Read the manifest, and check it and every file it names.

        Args:
            folder (str | PathLike): An exported folder.

        Raises:
            FileNotFoundError: If the folder, its manifest or a graph is not
                there.
            ValueError: If a file was changed after the export, or the folder
                is of a newer version.
        """
        folder = os.fspath(folder)
        content = _read(folder)
        digest = content.pop('manifest_sha256', None)
        if content.get('format') != FORMAT:
            raise ValueError(
                f'{folder!r} has the format {content.get("format")!r}, and '
                f'this version of mmdynperceiver reads {FORMAT}: export it '
                f'again, or use the version that wrote it')
        if digest != _digest(content):
            raise ValueError(
                f'{MANIFEST} in {folder!r} was changed after the export: '
                f'export again; other thresholds can be given to the runner')
        content.pop('format')
        segments = [Segment(**entry) for entry in content.pop('segments')]
        manifest = cls(segments=segments, **content)
        manifest.verify(folder)
        return manifest

    def verify(self, folder: str) -> None:
        """Compare the graphs with their checksums.

        Args:
            folder (str): Where the graphs are.

        Raises:
            FileNotFoundError: If one is not there.
            ValueError: If one was changed.
        """
        for segment in self.segments:
            path = os.path.join(folder, segment.file)
            if not os.path.isfile(path):
                raise FileNotFoundError(
                    f'{folder!r} is incomplete: {segment.file} is missing; '
                    f'copy the whole folder, or export again')
            if file_sha256(path) != self.sha256.get(segment.file):
                raise ValueError(
                    f'{segment.file} in {folder!r} was changed after the '
                    f'export (its SHA-256 is another): copy the folder once '
                    f'more, or export again')


def file_sha256(path: Union[str, os.PathLike]) -> str:
    """Checksum of a file.

    Args:
        path (str | PathLike): The file.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def _digest(content: Dict[str, Any]) -> str:
    """Checksum of what a JSON file says, however it is laid out."""
    text = json.dumps(content, sort_keys=True, default=float)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(folder: str) -> Dict[str, Any]:
    """The content of the manifest."""
    path = os.path.join(folder, MANIFEST)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f'{folder!r} is no exported folder: it has no {MANIFEST}; '
            f'tools/export.py writes one')
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except ValueError as error:  # JSON or text encoding
        raise ValueError(f'{path!r} is not JSON: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path!r} must hold an object, got '
                         f'{type(content).__name__}')
    return content
