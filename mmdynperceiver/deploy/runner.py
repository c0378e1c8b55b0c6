# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run an exported folder: real early exit without torch."""
import os
import time
from contextlib import ExitStack
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple, Union

import numpy as np

from ..exit_settings import fixed_exit_thresholds
from .drift import DriftMonitor
from .manifest import Manifest
from .policy import Policy, softmax
from .preprocessing import Image, check_batch
from .results import Outcome, Result
from .sessions import Sessions, check_outputs
from .streams import check_streams, run_in_streams
from .video import build_preprocessing

__all__ = ['Outcome', 'Result', 'Runner']


class Runner:
    """An exported network with its images' preprocessing and its policy.

    It may be called in several threads at once. Copies, pickled ones
    included, and forked processes open the folder again; see
    :class:`~mmdynperceiver.deploy.sessions.Sessions`.

    Args:
        manifest (Manifest): What the folder says of itself.
        sessions (Sequence): One for each segment, with the method ``run``.
        policy (Policy): Decides who leaves.

    Attributes:
        monitor (DriftMonitor, optional): Checks some images at the last
            exit as well, and may make the policy a safer one. Defaults to
            None.
        more_streams (list[Runner]): The same network, for images that run at
            the same time as others.
        met (set[tuple]): Sizes of batches that segments have met here, for
            times without what is done once.

    Example:
        >>> runner = Runner.load('exported/')                # doctest: +SKIP
        >>> for result in runner(['cat.jpg', 'dog.jpg']):    # doctest: +SKIP
        ...     print(result.name, result.score, result.exit_index)
    """

    def __init__(self, manifest: Manifest, sessions: Sequence[Any],
                 policy: Policy) -> None:
        self.manifest = manifest
        self.sessions = sessions
        self.policy = policy
        self.monitor: Optional[DriftMonitor] = None
        self.more_streams: List[Runner] = []
        self.met: Set[Tuple[int, int]] = set()
        self.preprocessing = build_preprocessing(manifest.preprocessing)
        # For each segment, the tensors that it or a later one takes.
        self._needed = [{
            name
            for segment in manifest.segments[index:]
            for name in segment.inputs
        } for index in range(manifest.num_exits + 1)]

    @classmethod
    def load(cls,
             folder: Union[str, os.PathLike],
             runtime: str = 'onnxruntime',
             threads: Optional[int] = None,
             precision: str = 'fp32',
             thresholds: Optional[Sequence[float]] = None,
             streams: int = 1,
             sessions: Optional[Sequence[Any]] = None) -> 'Runner':
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
            sessions (Sequence, optional): The segments, where they are open
                elsewhere; runtime, threads and precision are theirs then.

        Returns:
            Runner: Ready to be called.

        Raises:
            FileNotFoundError: If a file is missing.
            ImportError: If the runtime is not installed.
            ValueError: If a file was changed or does not fit, the runtime
                does not take a graph, or an argument does not fit.
        """
        manifest = Manifest.read(folder)
        manifest.refuse_detector(folder)
        settings = dict(manifest.policy)
        if thresholds is not None:
            settings['thresholds'] = thresholds
        policy = Policy(manifest.num_exits, **settings)
        count, threads = check_streams(streams, threads)
        runner, *more = (
            cls(
                manifest, sessions
                or Sessions(folder, manifest, runtime, threads, precision),
                policy) for _ in range(count))
        if len(runner.sessions) != manifest.num_exits:
            raise ValueError(f'{folder!r} has {manifest.num_exits} segments, '
                             f'got {len(runner.sessions)}')
        images = np.zeros((1, *runner.image_shape), np.float32)
        for one in (runner, *more):
            one.all_exits(images)
        runner.more_streams = more
        return runner

    def __call__(self,
                 images: Union[Image, Sequence[Image]],
                 batch_size: int = 1) -> List[Result]:
        """Classify images, or the videos that a network for videos takes.

        Args:
            images (str | PathLike | bytes | ndarray | PIL.Image.Image |
                Sequence): A file, what is in one, a folder with images in it
                and below, RGB pixels (H, W, 3) as uint8, an image of Pillow,
                or a list of these. Of videos: a file, a folder with some, all
                frames (T, H, W, 3) as uint8, or a list of these.
            batch_size (int): How many run together. Defaults to 1.

        Returns:
            list[Result]: In the order of the images, those of a folder
            sorted by their path.

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
        found = run_in_streams(self._classify, batches,
                               (self, *self.more_streams))
        return [result for results in found for result in results]

    @property
    def num_exits(self) -> int:
        """Number of exits, and of segments."""
        return self.manifest.num_exits

    @property
    def image_shape(self) -> Tuple[int, ...]:
        """Shape (3, H, W) of an image, or (M, 3, H, W) of a video."""
        return tuple(self.manifest.tensors['images'][1:])

    def _classify(self, items: Sequence[Image],
                  stream: 'Runner') -> List[Result]:
        """Classify one batch in a stream."""
        prepared, spent = zip(*map(self.prepare, items))
        paths = [
            os.fspath(item) if isinstance(item, (str, os.PathLike)) else None
            for item in items
        ]
        outcome = self.predict(np.stack(prepared), stream=stream)
        return self.results(outcome, paths, spent)

    def prepare(self, image: Image) -> Tuple[np.ndarray, float]:
        """Normalised pixels, of ``image_shape``, and milliseconds."""
        start = time.perf_counter()
        pixels = self.preprocessing(image)
        return pixels, 1000 * (time.perf_counter() - start)

    def results(self, outcome: Outcome, paths: Sequence[Optional[str]],
                preparing: Sequence[float]) -> List[Result]:
        """What each image of a batch gets.

        From the outcome, the files and the milliseconds of preparing each.
        """
        scores = softmax(outcome.logits)
        results = []
        for row, path in enumerate(paths):
            label = int(scores[row].argmax())
            index = int(outcome.exit_index[row])
            results.append(
                Result(path, label, self.manifest.classes[label],
                       float(scores[row, label]), scores[row], index,
                       float(outcome.confidence[row]),
                       self.manifest.macs_per_exit[index],
                       float(outcome.milliseconds[row]), preparing[row]))
        return results

    def predict(self,
                batch: np.ndarray,
                policy: Optional[Policy] = None,
                stream: Optional['Runner'] = None,
                staged: bool = False) -> Outcome:
        """Run each image of a batch only until it leaves.

        Args:
            batch (ndarray): Normalised images (B, 3, H, W), float32, or
                videos (B, M, 3, H, W).
            policy (Policy, optional): Instead of the runner's own. Defaults
                to None.
            stream (Runner, optional): One of ``more_streams`` that computes.
                Defaults to None, this one.
            staged (bool): Whether to run segments also where nobody can
                leave, in place of one graph. Defaults to False.

        Returns:
            Outcome: In the order of the batch.

        Raises:
            TypeError: If the batch is no array of float32.
            ValueError: If it has another shape, or NaN or infinity in it.
        """
        check_batch(batch, self.image_shape)
        count = len(batch)
        out = Outcome(
            np.empty((count, len(self.manifest.classes)), np.float32),
            np.empty(count, np.int64), np.empty(count, np.float32),
            np.empty(count))
        stream, used = stream or self, policy or self.policy
        # Until this closes, nobody else gets the runtime's memory.
        with ExitStack() as held:
            stream._run(batch, used, held, out, staged)
        # What left under thresholds that another thread has just given up
        # says nothing of the new ones.
        if self.monitor is not None and policy is None and \
                used is self.policy:
            found = self.monitor.watch(batch, out, used, stream.all_exits)
            if found is not used:
                self.policy = found
        return out

    def _run(self,
             batch: np.ndarray,
             policy: Policy,
             held: ExitStack,
             out: Outcome,
             staged: bool = False) -> None:
        """Run segments until all images have left; one graph instead where
        nobody can, unless it shall be ``staged``."""
        start = time.perf_counter()
        tensors, memory = dict(images=batch), None
        rows = np.arange(len(batch))
        whole = None
        if not (staged or policy.lets_leave):
            whole = self.all_at_once(batch, held)
        for index in range(self.num_exits):
            logits = self.step(index, tensors,
                               held) if whole is None else whole[index]
            conf, leaves, memory = policy.decide(index, logits, memory)
            number = np.count_nonzero(leaves)
            if not number:
                continue
            all_leave = number == len(rows)
            who = slice(None) if all_leave else leaves
            left = rows[who]
            out.milliseconds[left] = 1000 * (time.perf_counter() - start)
            out.logits[left] = policy.answer(index, logits, memory)[who]
            out.exit_index[left] = index
            out.confidence[left] = conf[who]
            if all_leave:
                break
            stay = ~leaves
            rows = rows[stay]
            tensors = {name: value[stay] for name, value in tensors.items()}
            memory = None if memory is None else memory[stay]

    def all_exits(self, batch: np.ndarray) -> Tuple[np.ndarray, ...]:
        """Run everything; takes and refuses what :meth:`predict` does.

        Returns:
            tuple[ndarray]: Logits (B, K) of each exit, shallow to deep.
        """
        check_batch(batch, self.image_shape)
        tensors = dict(images=batch)
        with ExitStack() as held:
            return tuple(
                self.step(index, tensors, held).copy()
                for index in range(self.num_exits))

    def time_to_exit(self, index: int, batch: np.ndarray) -> float:
        """Time a batch in which all images leave at one exit.

        Also the last one is reached by segments, as it is by images that stay
        where others leave.

        Args:
            index (int): The exit, 0-based; ValueError if there is none.
            batch (ndarray): As for :meth:`predict`.

        Returns:
            float: Milliseconds from the pixels to the logits, the decisions
            on the way included.
        """
        num_exits = self.num_exits
        policy = Policy(num_exits, fixed_exit_thresholds(index, num_exits))
        start = time.perf_counter()
        self.predict(batch, policy, staged=True)
        return 1000 * (time.perf_counter() - start)

    def all_at_once(self, batch: np.ndarray,
                    held: ExitStack) -> Optional[List[np.ndarray]]:
        """The logits (B, K) of all exits by one graph, None if there is none;
        see :meth:`step`."""
        if self.num_exits == 1 or self.sessions.whole is None:
            return None
        found = self.sessions.whole.run(dict(images=batch), held)
        for segment, logits in zip(self.manifest.segments, found):
            check_outputs(segment, len(batch), [logits], self.manifest.tensors)
        return found

    def step(self, index: int, tensors: Dict[str, np.ndarray],
             held: ExitStack) -> np.ndarray:
        """Run one segment; its logits (B, K).

        Args:
            index (int): Its number.
            tensors (dict[str, ndarray]): What it takes, by name: ``images``,
                or what the segment before left here. What it leaves for the
                next is put in, what nobody needs is taken out.
            held (ExitStack): While it is open, arrays of the runtime stay as
                they are.

        Raises:
            ValueError: If the runtime fails, or what it returns does not fit.
        """
        segment = self.manifest.segments[index]
        feeds = {name: tensors[name] for name in segment.inputs}
        outputs = self.sessions[index].run(feeds, held)
        check_outputs(segment, len(feeds[segment.inputs[0]]), outputs,
                      self.manifest.tensors)
        tensors.update(zip(segment.outputs, outputs))
        for name in set(tensors) - self._needed[index + 1]:
            del tensors[name]
        return outputs[0]
