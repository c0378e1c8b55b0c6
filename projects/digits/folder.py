# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What all generated data sets share."""
import csv
import functools
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .atomic import FORMAT, filling, is_finished, write_text
from .sources import NUM_CLASSES, SPLITS, DigitSource

# Raise it with every change that gives other pixels for the same parameters.
GENERATOR_VERSION = 1
MIN_SIZE = 32

_CHUNK = 500
# Starting processes takes as long as drawing about this many images.
_POOL_PAYS = 4000


@dataclass(frozen=True)
class DigitFolder:
    """A data set: all that decides its content, checked, and how to write it.

    A kind of data says how to write one item. Each split gets an index such
    as ``train.csv``, and ``dataset.json`` holds all parameters. Item i of a
    split depends on (seed, split, i) and the other parameters alone.

    Args:
        counts (Mapping[str, int]): Items of 'train', 'val' and 'test'. A
            split that is missing or 0 is not written.
        size (int): Height and width in pixels, at least 32. Defaults to 64.
        seed (int): Seed, not negative. The source digits of a split do not
            depend on it. Defaults to 0.
        hardness (float): Positive; below 1 easy items prevail, above 1 hard
            ones. Defaults to 1.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a value is out of range.
    """
    counts: Mapping[str, int]
    size: int = 64
    seed: int = 0
    hardness: float = 1.

    # What is counted, for messages.
    items = 'images'
    # Columns of the index; source is the row in load_digits.
    fields = ('file', 'label', 'difficulty', 'source', 'seed')
    classes = tuple(map(str, range(NUM_CLASSES)))
    # Folders below that of a split.
    subfolders = classes

    def __post_init__(self) -> None:
        unknown = sorted(set(self.counts) - set(SPLITS))
        if unknown:
            raise ValueError(
                f'counts may name {", ".join(SPLITS)}, got {unknown[0]!r}')
        for split, count in self.counts.items():
            check_int(f'the number of {split} {self.items}', count, 0)
        if not any(self.counts.values()):
            raise ValueError(f'at least one split needs {self.items}, got '
                             f'none in any')
        check_int('size', self.size, MIN_SIZE)
        check_int('seed', self.seed, 0)
        if not isinstance(self.hardness, (int, float)):
            raise TypeError(
                f'hardness must be a number, got {self.hardness!r}')
        if not (math.isfinite(self.hardness) and self.hardness > 0):
            raise ValueError(
                'hardness must be a positive number such as 0.5 (easier), 1 '
                f'or 2 (harder), got {self.hardness!r}')

    @property
    def item_bytes(self) -> int:
        """About how much disk an item takes."""
        # A file takes whole blocks; a noisy JPEG about one byte per pixel.
        return max(4096, self.size**2)

    def write_item(self, folder: Path, source: DigitSource, split: str,
                   number: int, seed: int) -> tuple:
        """Write item ``number`` of a split, and give its row of the index.

        Everything random in it follows from the seed. The row has a value for
        each of ``fields``.
        """
        raise NotImplementedError

    def finish(self, folder: Path, split: str, rows: list[dict]) -> None:
        """Write what is made from the index of a finished split."""

    def _counts(self):
        """The splits to write, and how many items they have."""
        return [(split, self.counts[split]) for split in SPLITS
                if self.counts.get(split)]

    def parameters(self) -> dict:
        """The parameters, as JSON can hold them."""
        return dict(
            counts={split: int(self.counts.get(split, 0))
                    for split in SPLITS},
            size=int(self.size),
            seed=int(self.seed),
            hardness=float(self.hardness))

    def write(self,
              root: str | os.PathLike,
              overwrite: bool = False,
              workers: int = 1,
              progress: Callable[[int, int], None] | None = None) -> bool:
        """Make the data set, or reuse it if it is there already.

        The folder appears when it is complete, and a call with the same
        parameters goes on after an interruption.

        Args:
            root (str | os.PathLike): The folder to make.
            overwrite (bool): Replace a data set with other parameters. A
                folder that was not made here is never replaced. Defaults to
                False.
            workers (int): Number of processes, used where that pays. More
                than one needs the calling script to be guarded by
                ``if __name__ == '__main__'``. Defaults to 1.
            progress (Callable[[int, int], None], optional): Called with the
                numbers of finished and of all items. Defaults to None.

        Returns:
            bool: True if items were written, False if it was complete.

        Raises:
            FileExistsError: If ``root`` holds something else.
            OSError: If the folder cannot be written, or the disk is too full.
        """
        check_int('workers', workers, 1)
        root = Path(os.path.abspath(root))
        info = self._info()
        if is_finished(root, info, overwrite):
            return False
        with filling(root, info) as folder:
            for split, _ in self._counts():
                for name in self.subfolders:
                    (folder / split / name).mkdir(parents=True, exist_ok=True)
            self._write_missing(folder, workers, progress)
            for split, count in self._counts():
                self._finish_split(folder, split, count)
            for part in folder.glob('.*.csv'):
                part.unlink()
        return True

    def _info(self):
        """What ``dataset.json`` holds, the fingerprint included."""
        info = dict(
            format=FORMAT,
            generator_version=GENERATOR_VERSION,
            parameters=self.parameters())
        text = json.dumps(info, sort_keys=True)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        return dict(info, fingerprint=fingerprint, classes=list(self.classes))

    def _write_missing(self, folder, workers, progress):
        """Write the chunks whose index is not there yet."""
        chunks = [(split, range(start, min(start + _CHUNK, count)))
                  for split, count in self._counts()
                  for start in range(0, count, _CHUNK)
                  if not _part_path(folder, split, start).exists()]
        left = sum(len(numbers) for _, numbers in chunks)
        need, free = left * self.item_bytes, shutil.disk_usage(folder).free
        if free < need:
            raise OSError(
                f'{left} {self.items} need about {need >> 20} MiB, but '
                f'{folder.parent} has {free >> 20} MiB left; free some space '
                'or choose another disk')
        total = sum(self.counts.values())
        show = progress or (lambda done, total: None)
        show(total - left, total)
        with _mapping(workers if left >= _POOL_PAYS else 1) as run:
            write = functools.partial(_write_chunk, self, folder)
            for written in run(write, chunks):
                left -= written
                show(total - left, total)

    def _finish_split(self, folder, split, count):
        """Join the indexes of a split's chunks, and write what they give."""
        text = ','.join(self.fields) + '\n'
        for start in range(0, count, _CHUNK):
            text += _part_path(folder, split, start).read_text()
        write_text(folder / f'{split}.csv', text)
        self.finish(folder, split, list(csv.DictReader(text.splitlines())))


def item_seed(seed: int, split: str, number: int) -> int:
    """Seed of item ``number`` of a split in a data set with a seed."""
    sequence = np.random.SeedSequence([seed, SPLITS.index(split), number])
    # 63 bits, so that readers of the index can keep it as a signed integer.
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def check_int(name: str, value: int, least: int) -> None:
    """Refuse a value that is not an integer or too small."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f'{name} must be an integer, got {value!r}')
    if value < least:
        raise ValueError(f'{name} must be at least {least}, got {value}')


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write an image, blue, green, red, (H, W, 3), uint8, as a JPEG file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 92]
    path.write_bytes(cv2.imencode('.jpg', image, options)[1])


def _write_chunk(data, folder, chunk):
    """Write some items, then their index, which marks them as finished."""
    split, numbers = chunk
    source = _digit_source(split)
    text = ''
    for number in numbers:
        row = data.write_item(folder, source, split, number,
                              item_seed(data.seed, split, number))
        text += ','.join(map(str, row)) + '\n'
    write_text(_part_path(folder, split, numbers.start), text)
    return len(numbers)


# Prepared once in a process.
_digit_source = functools.cache(DigitSource)


def _part_path(folder, split, start):
    return folder / f'.{split}-{start:09d}.csv'


@contextmanager
def _mapping(workers):
    """A ``map`` that runs in this process, or in several."""
    if workers == 1:
        # Waking threads takes longer than any step on a small image.
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield map
        finally:
            cv2.setNumThreads(threads)
        return
    # Forking a process that runs torch or OpenCV threads may hang.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start_worker():
    # An interrupt reaches all processes; the parent handles it for all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    # Without this a worker would wait for ever for a parent that was killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)
