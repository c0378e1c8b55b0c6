# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What classifiers and detectors share once they are exported."""
import os
import time
from typing import (Any, ClassVar, List, Optional, Sequence, Tuple, TypeVar,
                    Union)

import numpy as np

from ..exit_settings import fixed_exit_thresholds
from .drift import DriftMonitor
from .manifest import Manifest
from .policy import Policy
from .preprocessing import Image
from .sessions import Sessions
from .streams import check_streams, run_in_streams

__all__ = ['ExportedNetwork']

_Network = TypeVar('_Network', bound='ExportedNetwork')


class ExportedNetwork:
    """An exported network with its images' preprocessing and its policy.

    It may be called in several threads at once. Copies, pickled ones
    included, and forked processes open the folder again; see
    :class:`~mmdynperceiver.deploy.sessions.Sessions`.

    Args:
        manifest (Manifest): What the folder says of itself.
        sessions (Sequence): One for each graph, with the method ``run``.
        policy (Policy): Decides who leaves.

    Attributes:
        monitor (DriftMonitor, optional): Checks some images at the last
            exit as well, and may make the policy a safer one. Defaults to
            None.
        more_streams (list): The same network, for images that run at the
            same time as others.
        met (set[tuple]): Sizes of batches that graphs have met here, for
            times without what is done once.
    """

    # Whether the folders have something behind their segments.
    detects: ClassVar[bool]
    preprocessing: Any
    # A list, or what also opens all graphs as one.
    sessions: Any

    def __init__(self, manifest: Manifest, sessions: Sequence[Any],
                 policy: Policy) -> None:
        self.manifest = manifest
        self.sessions = sessions
        self.policy = policy
        self.monitor: Optional[DriftMonitor] = None
        self.more_streams: List[Any] = []
        self.met: set = set()

    @classmethod
    def load(cls: Any,
             folder: Union[str, os.PathLike],
             runtime: str = 'onnxruntime',
             threads: Optional[int] = None,
             precision: str = 'fp32',
             thresholds: Optional[Sequence[float]] = None,
             streams: int = 1,
             sessions: Optional[Sequence[Any]] = None) -> Any:
        """Open a folder that ``tools/export.py`` wrote.

        Args:
            folder (str | PathLike): The folder. Everything in it is
                checked, and every segment is run once.
            runtime (str): 'onnxruntime' or 'openvino', or 'litert' for a
                folder of that format. Defaults to 'onnxruntime'.
            threads (int, optional): Number of threads, for all segments
                together. Defaults to None, see
                :func:`~mmdynperceiver.deploy.threads.available_threads`.
            precision (str): 'fp32', or 'bf16' in OpenVINO where the
                processor has it. Defaults to 'fp32'.
            thresholds (Sequence[float], optional): Instead of the exported
                ones, for the same criterion. Defaults to None.
            streams (int): How many images, or batches, of those given are
                decoded and run at the same time, with one thread each.
                Defaults to 1.
            sessions (Sequence, optional): The graphs, where they are open
                elsewhere; runtime, threads and precision are theirs then.

        Returns:
            Runner | Detector: Ready to be called.

        Raises:
            FileNotFoundError: If a file is missing.
            ImportError: If the runtime is not installed.
            ValueError: If a file was changed or does not fit, the runtime
                does not take a graph, or an argument does not fit.
        """
        manifest = Manifest.read(folder)
        manifest.check_kind(folder, cls.detects)
        settings = dict(manifest.policy)
        if thresholds is not None:
            settings['thresholds'] = thresholds
        policy = Policy(manifest.num_exits, **settings)
        count, threads = check_streams(streams, threads)
        network, *more = (
            cls(
                manifest, sessions
                or Sessions(folder, manifest, runtime, threads, precision),
                policy) for _ in range(count))
        if len(network.sessions) != len(manifest.graphs):
            raise ValueError(f'{folder!r} has {len(manifest.graphs)} graphs, '
                             f'got {len(network.sessions)}')
        for one in (network, *more):
            one.try_out()
        network.more_streams = more
        return network

    def __call__(self,
                 images: Union[Image, Sequence[Image]],
                 batch_size: int = 1) -> List[Any]:
        """Classify images, or the videos that a network for videos takes; of
        a detector, detect in images.

        Args:
            images (str | PathLike | bytes | ndarray | PIL.Image.Image |
                Sequence): A file, what is in one, a folder with images in it
                and below, RGB pixels (H, W, 3) as uint8, an image of Pillow,
                or a list of these. Of videos: a file, a folder with some, all
                frames (T, H, W, 3) as uint8, or a list of these.
            batch_size (int): How many run together; images of a detector are
                padded to the largest of them. Defaults to 1.

        Returns:
            list[Result | Detected]: In the order of the images, those of a
            folder sorted by their path.

        Raises:
            FileNotFoundError: If there is no such file, or no image.
            ValueError: If an image cannot be read or has a wrong size, or
                ``batch_size`` is not positive.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got '
                             f'{batch_size}')
        items = self.preprocessing.listed(images)
        batches = (
            items[start:start + batch_size]
            for start in range(0, len(items), batch_size))
        found = run_in_streams(self._run_items, batches,
                               (self, *self.more_streams))
        return [result for results in found for result in results]

    @property
    def num_exits(self) -> int:
        """Number of exits, and of segments."""
        return self.manifest.num_exits

    def _run_items(self: _Network, items: Sequence[Image],
                   stream: _Network) -> List[Any]:
        """What one batch gets, run in a stream."""
        prepared, spent = zip(*map(self.prepare, items))
        paths = [
            os.fspath(item) if isinstance(item, (str, os.PathLike)) else None
            for item in items
        ]
        outcome = self.predict(self.batch_of(prepared), stream=stream)
        return self.results(outcome, paths, spent)

    def prepare(self, image: Image) -> Tuple[Any, float]:
        """An image as the graphs want it, and milliseconds."""
        start = time.perf_counter()
        prepared = self.preprocessing(image)
        return prepared, 1000 * (time.perf_counter() - start)

    def time_to_exit(self, index: int, batch: Any) -> float:
        """Time a batch in which all images leave at one exit.

        Also the last one is reached by segments, as it is by images that stay
        where others leave.

        Args:
            index (int): The exit, 0-based; ValueError if there is none.
            batch: As for ``predict``.

        Returns:
            float: Milliseconds from the pixels to the logits, or boxes, the
            decisions on the way included.
        """
        policy = self.leave_at(index)
        start = time.perf_counter()
        self.predict(batch, policy, staged=True)
        return 1000 * (time.perf_counter() - start)

    def leave_at(self, index: int) -> Policy:
        """The policy by which all leave at one exit, 0-based; ValueError if
        there is none."""
        count = self.num_exits
        return Policy(count, fixed_exit_thresholds(index, count))

    def try_out(self) -> None:
        """Run each graph once; ValueError, if one cannot be."""
        raise NotImplementedError

    def batch_of(self, prepared: Sequence[Any]) -> Any:
        """Images that :meth:`prepare` returned, as one batch."""
        raise NotImplementedError

    def normalised(self, pixels: np.ndarray) -> Any:
        """Pixels that are normalised already, as a batch of images that are
        as they were; see :meth:`predict`."""
        raise NotImplementedError

    def all_exits(self, batch: np.ndarray) -> Sequence[np.ndarray]:
        """What the policy decides on at each exit, (B, K)."""
        raise NotImplementedError

    def predict(self,
                batch: Any,
                policy: Optional[Policy] = None,
                stream: Any = None,
                staged: bool = False) -> Any:
        """Run each image of a batch only until it leaves."""
        raise NotImplementedError

    def results(self, outcome: Any, paths: Sequence[Optional[str]],
                preparing: Sequence[float]) -> List[Any]:
        """What each image of a batch gets.

        From the outcome, the files and the milliseconds of preparing each.
        """
        raise NotImplementedError
