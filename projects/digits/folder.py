# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What all generated data sets share.

A folder appears whole or not at all, and an interrupted run goes on.
"""
import csv
import functools
import hashlib
import io
import json
import math
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from .sources import NUM_CLASSES, SPLITS, DigitSource

# Raise it with every change that gives other pixels for the same parameters.
GENERATOR_VERSION = 1
FORMAT = 'mmdynperceiver-digits'
MIN_SIZE = 32

_INFO = 'dataset.json'
# Both are in a partial folder only.
_PLAN = 'plan.json'
_PROBE = '.lock'
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
        hardness (float): Positive; shifts the distribution of the difficulty,
            see :func:`draw_difficulty`. Defaults to 1.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a value is out of range.
    """
    counts: Mapping[str, int]
    size: int = 64
    seed: int = 0
    hardness: float = 1.

    # What is counted, for messages.
    items: ClassVar[str] = 'images'
    # Columns of the index; source is the row in load_digits.
    fields: ClassVar[tuple[str, ...]] = ('file', 'label', 'difficulty',
                                         'source', 'seed')
    classes: ClassVar[tuple[str, ...]] = tuple(map(str, range(NUM_CLASSES)))
    # Folders below that of a split.
    subfolders: ClassVar[tuple[str, ...]] = classes

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

        The folder appears under its name when it is complete. Until then its
        content is in a hidden sibling ``.<name>.partial``, from which a call
        with the same parameters goes on after an interruption.

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
        if _is_finished(root, info, overwrite):
            return False
        partial = root.with_name(f'.{root.name}.partial')
        with _locked(partial, root):
            self._prepare(partial, info)
            self._write_missing(partial, workers, progress)
            for split, count in self._counts():
                self._finish_split(partial, split, count)
            _publish(partial, root)
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

    def _prepare(self, partial, info):
        """Keep what an interrupted run with the same parameters has left."""
        plan = _read_info(partial / _PLAN)
        if plan == info:
            return
        content = [path for path in partial.iterdir() if path.name != _PROBE]
        if content and plan is None and _read_info(partial / _INFO) is None:
            raise FileExistsError(
                f'{partial} exists and was not made here; remove it or choose '
                'another folder')
        for path in content:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        _write_text(partial / _PLAN, json.dumps(info, indent=2) + '\n')
        for split, _ in self._counts():
            for name in self.subfolders:
                (partial / split / name).mkdir(parents=True)

    def _write_missing(self, partial, workers, progress):
        """Write the chunks whose index is not there yet."""
        chunks = [(split, range(start, min(start + _CHUNK, count)))
                  for split, count in self._counts()
                  for start in range(0, count, _CHUNK)
                  if not _part_path(partial, split, start).exists()]
        left = sum(len(numbers) for _, numbers in chunks)
        need, free = left * self.item_bytes, shutil.disk_usage(partial).free
        if free < need:
            raise OSError(
                f'{left} {self.items} need about {need >> 20} MiB, but '
                f'{partial.parent} has {free >> 20} MiB left; free some space '
                'or choose another disk')
        total = sum(self.counts.values())
        show = progress or (lambda done, total: None)
        show(total - left, total)
        with _mapping(workers if left >= _POOL_PAYS else 1) as run:
            write = functools.partial(_write_chunk, self, partial)
            for written in run(write, chunks):
                left -= written
                show(total - left, total)

    def _finish_split(self, partial, split, count):
        """Join the indexes of a split's chunks, and write what they give."""
        text = ','.join(self.fields) + '\n'
        for start in range(0, count, _CHUNK):
            text += _part_path(partial, split, start).read_text()
        _write_text(partial / f'{split}.csv', text)
        self.finish(partial, split, list(csv.DictReader(io.StringIO(text))))


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


def _write_chunk(folder, partial, chunk):
    """Write some items, then their index, which marks them as finished."""
    split, numbers = chunk
    source = _digit_source(split)
    text = io.StringIO()
    index = csv.writer(text, lineterminator='\n')
    for number in numbers:
        seed = item_seed(folder.seed, split, number)
        index.writerow(folder.write_item(partial, source, split, number, seed))
    _write_text(_part_path(partial, split, numbers.start), text.getvalue())
    return len(numbers)


# Prepared once in a process.
_digit_source = functools.cache(DigitSource)


def _part_path(partial, split, start):
    return partial / f'.{split}-{start:09d}.csv'


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


def _read_info(path):
    """Content of a description written here, or None for anything else."""
    try:
        info = json.loads(path.read_text())
        return info if info['format'] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_text(path, text):
    scratch = path.with_name(path.name + '.tmp')
    scratch.write_text(text)
    os.replace(scratch, path)


def _is_finished(root, info, overwrite):
    """Whether the data set is there; refuse a folder with anything else."""
    if not os.path.lexists(root) or root.is_dir() and not any(root.iterdir()):
        return False
    found = _read_info(root / _INFO)
    if found is None:
        raise FileExistsError(
            f'{root} exists and is not a data set made here; choose another '
            'folder or remove it')
    if found.get('fingerprint') != info['fingerprint']:
        if overwrite:
            return False
        raise FileExistsError(
            f'{root} holds a data set with other parameters: '
            f'{_differences(found, info)}; choose another folder or ask to '
            'overwrite it')
    for split, count in info['parameters']['counts'].items():
        if count and not (root / f'{split}.csv').exists():
            raise FileNotFoundError(
                f'{root} is damaged: {split}.csv is missing; remove the '
                'folder and run this again')
    return True


def _differences(*infos):
    """How the parameters of two data sets differ."""
    old, new = (
        dict(
            info.get('parameters', {}),
            generator_version=info.get('generator_version')) for info in infos)
    return ', '.join(f'{key} is {old.get(key)} and not {new.get(key)}'
                     for key in new | old if old.get(key) != new.get(key))


@contextmanager
def _locked(partial: Path, root: Path) -> Iterator[None]:
    """Make the partial folder and keep other processes out of it."""
    try:
        partial.mkdir(parents=True, exist_ok=True)
        # mkdir does not tell whether an old partial folder can be written.
        probe = partial / _PROBE
        probe.touch()
    except OSError as error:
        raise OSError(
            f'cannot write to {partial.parent}: {error.strerror}; choose a '
            'folder that can be written') from error
    with open(probe) as file:
        if not _lock(file.fileno(), probe):
            raise OSError(
                f'another process is making {root}; wait for it, then run '
                'this again')
        yield


def _lock(handle, path):
    """Lock an open file; False if another process has or had the lock."""
    if os.name != 'posix':
        return True
    import fcntl
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A process that had the lock before may have renamed the folder.
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def _publish(partial, root):
    """Give the finished folder its name, in place of an older data set."""
    for part in partial.glob('.*.csv'):
        part.unlink()
    (partial / _PROBE).unlink()
    os.replace(partial / _PLAN, partial / _INFO)
    old = root.with_name(f'.{root.name}.old')
    shutil.rmtree(old, ignore_errors=True)
    if root.exists():
        os.rename(root, old)
    os.replace(partial, root)
    shutil.rmtree(old, ignore_errors=True)
