# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Write a classification data set of digits as an ordinary image folder.

:func:`write_folder` is what all generated data sets share: a folder appears
whole or not at all, and an interrupted run goes on.
"""
import csv
import io
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from .draw import draw_image
from .sources import NUM_CLASSES, SPLITS, DigitSource
from .spec import FORMAT, FolderSpec, check_int, image_seed

DEFAULT_COUNTS = dict(train=24000, val=2000, test=2000)

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92]
_INFO = 'dataset.json'
# Both are in a partial folder only.
_PLAN = 'plan.json'
_PROBE = '.lock'
_CHUNK = 500
# Starting processes takes as long as drawing about this many images.
_POOL_PAYS = 4000


def write_image_folder(
        root: str | os.PathLike,
        counts: Mapping[str, int] = DEFAULT_COUNTS,
        size: int = 64,
        seed: int = 0,
        hardness: float = 1.,
        overwrite: bool = False,
        workers: int = 1,
        progress: Callable[[int, int], None] | None = None) -> bool:
    """Make the digits data set, or reuse it if it is there already.

    The folder holds images ``train/3/000123.jpg`` (split, class, number),
    one index ``train.csv`` per split (columns file, label, difficulty,
    source, seed; source is the row in ``load_digits``, seed that of
    :func:`draw_image`), and ``dataset.json`` with all parameters. Classes are
    balanced, and each source digit of a class is used equally often, up to
    one. Image i of a split depends on (seed, split, i) and the other
    parameters alone.

    The folder appears under its name when it is complete. Until then its
    content is in a hidden sibling ``.<name>.partial``, from which a call with
    the same parameters goes on after an interruption.

    Args:
        root (str | os.PathLike): The folder to make.
        counts (Mapping[str, int]): Images of 'train', 'val' and 'test'.
            Defaults to 24,000, 2,000 and 2,000.
        size (int): Height and width of the images in pixels, at least 32.
            Defaults to 64.
        seed (int): Seed, not negative. The source digits of a split do not
            depend on it. Defaults to 0.
        hardness (float): Shifts the distribution of the difficulty; see
            :func:`draw_difficulty`. Defaults to 1.
        overwrite (bool): Replace a data set with other parameters. A folder
            that this function has not made is never replaced. Defaults to
            False.
        workers (int): Number of processes, used where that pays. More than
            one needs the calling script to be guarded by
            ``if __name__ == '__main__'``. Defaults to 1.
        progress (Callable[[int, int], None], optional): Called with the
            numbers of finished and of all images. Defaults to None.

    Returns:
        bool: True if images were written, False if the folder was complete.

    Raises:
        TypeError: If a parameter has the wrong type.
        ValueError: If a parameter is out of range.
        FileExistsError: If ``root`` holds something else.
        OSError: If the folder cannot be written, or the disk is too full.

    Example:
        >>> write_image_folder('data/digits', dict(train=1000, test=200))
        True
    """
    return write_folder(root, ImageSpec(dict(counts), size, seed, hardness),
                        overwrite, workers, progress)


class ImageSpec(FolderSpec):
    """A folder with an image of one digit in each file."""

    fields = ('file', 'label', 'difficulty', 'source', 'seed')

    def write_items(self, partial: Path, split: str, start: int,
                    stop: int) -> str:
        """Write images ``split/label/number.jpg``."""
        source = digit_source(split)
        text = io.StringIO()
        index = csv.writer(text, lineterminator='\n')
        for number in range(start, stop):
            label = number % NUM_CLASSES
            members = source.members(label)
            position = int(members[number // NUM_CLASSES % len(members)])
            seed = image_seed(self.seed, split, number)
            rendered, difficulty = draw_image(source, position, seed,
                                              self.size, self.hardness)
            name = f'{split}/{label}/{number:06d}.jpg'
            write_jpeg(partial / name, rendered.image)
            index.writerow((name, label, f'{difficulty:.6f}',
                            source.indices[position], seed))
        return text.getvalue()


def write_folder(root: str | os.PathLike,
                 spec: FolderSpec,
                 overwrite: bool = False,
                 workers: int = 1,
                 progress: Callable[[int, int], None] | None = None) -> bool:
    """Make a data set of any kind, or reuse it if it is there already.

    Args:
        root (str | os.PathLike): The folder to make.
        spec (FolderSpec): All that decides its content.
        overwrite (bool): See :func:`write_image_folder`. Defaults to False.
        workers (int): Number of processes. Defaults to 1.
        progress (Callable[[int, int], None], optional): Called with the
            numbers of finished and of all items. Defaults to None.

    Returns:
        bool: True if something was written, False if it was complete.

    Raises:
        OSError: If the folder cannot be written, or holds something else.
    """
    check_int('workers', workers, 1)
    root = Path(os.path.abspath(root))
    info = spec.info()
    if _is_finished(root, info, overwrite):
        return False
    partial = root.with_name(f'.{root.name}.partial')
    with _locked(partial, root):
        _prepare(partial, spec, info)
        pending = _pending_chunks(spec, partial)
        _check_space(partial, spec, pending)
        _run_chunks(spec, partial, pending, workers, progress)
        _join_indexes(spec, partial)
        spec.finish(partial)
        _publish(partial, root)
    return True


def _read_info(path):
    """Content of a description written here, or None for anything else."""
    try:
        info = json.loads(path.read_text())
        return info if info['format'] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_finished(root, info, overwrite):
    """Whether the data set is there; refuse a folder with anything else."""
    if not os.path.lexists(root):
        return False
    if root.is_dir() and not any(root.iterdir()):
        return False
    found = _read_info(root / _INFO)
    if found is None:
        raise FileExistsError(
            f'{root} exists and is not a data set made here; choose another '
            'folder or remove it')
    if overwrite and found.get('fingerprint') != info['fingerprint']:
        return False
    if found.get('fingerprint') != info['fingerprint']:
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


def _differences(found, info):
    old = dict(found.get('parameters', {}))
    new = dict(info['parameters'])
    old['generator_version'] = found.get('generator_version')
    new['generator_version'] = info['generator_version']
    return ', '.join(f'{key} is {old.get(key)} and not {new.get(key)}'
                     for key in {
                         **new,
                         **old
                     } if old.get(key) != new.get(key))


@contextmanager
def _locked(partial, root) -> Iterator[None]:
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
    handle = os.open(probe, os.O_RDONLY)
    try:
        if not _lock(handle, probe):
            raise OSError(
                f'another process is making {root}; wait for it, then run '
                'this again')
        yield
    finally:
        os.close(handle)


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


def _prepare(partial, spec, info):
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
    for split, count in info['parameters']['counts'].items():
        for name in spec.subfolders if count else ():
            (partial / split / name).mkdir(parents=True)


def _pending_chunks(spec, partial):
    """Chunks (split, start, stop) whose index is not written yet."""
    return [(split, start, min(start + _CHUNK, spec.counts[split]))
            for split in SPLITS
            for start in range(0, spec.counts.get(split, 0), _CHUNK)
            if not _part_path(partial, split, start).exists()]


def _part_path(partial, split, start):
    return partial / f'.{split}-{start:09d}.csv'


def _check_space(partial, spec, pending):
    items = sum(stop - start for _, start, stop in pending)
    need = items * spec.item_bytes
    free = shutil.disk_usage(partial).free
    if free < need:
        raise OSError(
            f'{items} {spec.items} need about {need >> 20} MiB, but '
            f'{partial.parent} has {free >> 20} MiB left; free some space or '
            'choose another disk')


def _run_chunks(spec, partial, pending, workers, progress):
    total = sum(spec.counts.values())
    left = sum(stop - start for _, start, stop in pending)
    done = total - left

    def advance(count=0):
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    advance()
    if workers == 1 or left < _POOL_PAYS:
        # Waking threads takes longer than any step on a small image.
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            for chunk in pending:
                advance(_write_chunk(spec, partial, *chunk))
        finally:
            cv2.setNumThreads(threads)
        return
    # Forking a process that runs torch or OpenCV threads may hang.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        jobs = [
            pool.submit(_write_chunk, spec, partial, *chunk)
            for chunk in pending
        ]
        try:
            for job in as_completed(jobs):
                advance(job.result())
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


@lru_cache(maxsize=len(SPLITS))
def digit_source(split: str) -> DigitSource:
    """The source digits of a split, prepared once in a process."""
    return DigitSource(split)


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write a JPEG file.

    Args:
        path (Path): The file.
        image (np.ndarray): Blue, green, red, (H, W, 3), uint8.
    """
    path.write_bytes(cv2.imencode('.jpg', image, _JPEG)[1])


def _write_chunk(spec, partial, split, start, stop):
    """Write some items, then their index, which marks them as finished."""
    text = spec.write_items(partial, split, start, stop)
    _write_text(_part_path(partial, split, start), text)
    return stop - start


def _join_indexes(spec, partial):
    for split in SPLITS:
        starts = range(0, spec.counts.get(split, 0), _CHUNK)
        parts = [_part_path(partial, split, start) for start in starts]
        if parts:
            text = ','.join(spec.fields) + '\n'
            text += ''.join(part.read_text() for part in parts)
            _write_text(partial / f'{split}.csv', text)


def _write_text(path, text):
    scratch = path.with_name(path.name + '.tmp')
    scratch.write_text(text)
    os.replace(scratch, path)


def _publish(partial, root):
    """Give the finished folder its name, in place of an older data set."""
    for part in partial.glob('.*.csv'):
        part.unlink()
    (partial / _PROBE).unlink()
    os.replace(partial / _PLAN, partial / _INFO)
    old = None
    if root.exists() and any(root.iterdir()):
        old = root.with_name(f'.{root.name}.old')
        if old.exists():
            shutil.rmtree(old)
        os.rename(root, old)
    os.replace(partial, root)
    if old is not None:
        shutil.rmtree(old)
