# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run an exported folder: real early exit without torch."""
import time
from contextlib import ExitStack
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .exported import ExportedNetwork
from .manifest import Manifest
from .policy import Policy, softmax
from .preprocessing import check_batch
from .results import Outcome, Result
from .sessions import check_outputs
from .video import build_preprocessing

__all__ = ['Outcome', 'Result', 'Runner']


class Runner(ExportedNetwork):
    """An exported classifier of images or videos.

    Example:
        >>> runner = Runner.load('exported/')                # doctest: +SKIP
        >>> for result in runner(['cat.jpg', 'dog.jpg']):    # doctest: +SKIP
        ...     print(result.name, result.score, result.exit_index)
    """

    detects = False

    def __init__(self, manifest: Manifest, sessions: Sequence[Any],
                 policy: Policy) -> None:
        super().__init__(manifest, sessions, policy)
        self.preprocessing = build_preprocessing(manifest.preprocessing)
        # For each segment, what nobody needs when it has run.
        self._done = [{
            name
            for name in (*segment.inputs, *segment.outputs)
            if not any(name in later.inputs
                       for later in manifest.segments[index + 1:])
        } for index, segment in enumerate(manifest.segments)]

    def try_out(self) -> None:
        """Run each segment once."""
        self.all_exits(np.zeros((1, *self.image_shape), np.float32))

    @property
    def image_shape(self) -> Tuple[int, ...]:
        """Shape (3, H, W) of an image, or (M, 3, H, W) of a video."""
        return tuple(self.manifest.tensors['images'][1:])

    def batch_of(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """Normalised images, or videos, as one batch."""
        return np.stack(prepared)

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """They are a batch as they are."""
        return pixels

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
        # Who is here: everybody, until some leave and some do not.
        rows: Any = slice(None)
        whole = None
        if not (staged or policy.lets_leave):
            whole = self.all_at_once(batch, held)
        for index in range(self.num_exits):
            logits = self.step(index, tensors,
                               held) if whole is None else whole[index]
            conf, leaves, memory = policy.decide(index, logits, memory)
            said = leaves.tolist()
            if True not in said:
                continue
            spent = 1000 * (time.perf_counter() - start)
            answer = policy.answer(index, logits, memory)
            if False not in said:
                out.put(rows, answer, index, conf, spent)
                break
            stay, rows = ~leaves, np.arange(len(batch))[rows]
            out.put(rows[leaves], answer[leaves], index, conf[leaves], spent)
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
        for name in self._done[index]:
            del tensors[name]
        return outputs[0]
