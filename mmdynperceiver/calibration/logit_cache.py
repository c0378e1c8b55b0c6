# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Logits on disk, so that an interrupted run goes on where it stopped."""
import json
import os
import time
from pathlib import Path
from typing import (Callable, Iterable, Iterator, List, Mapping, NamedTuple,
                    Union)

from ..errors import InputError
from ..io.atomic import write_json
from ..io.checkpoint_file import atomic_save, read_checkpoint
from ..io.fingerprints import settings_fingerprint
from ..progress import progress_bar
from .exit_logits import ExitLogits

__all__ = ['CachedLogits', 'cached_exit_logits']

# A part is written when it has so many samples, or is so old in seconds.
PART_SIZE = 4096
PART_AGE = 10.
# File of the part that begins with a sample.
PART = 'part-{:08d}.pt'


class CachedLogits(NamedTuple):
    """Logits and where they came from."""

    exits: ExitLogits  # in the order of the data
    num_reused: int  # how many samples came from the cache
    folder: Path  # of the cache


def cached_exit_logits(root: Union[str, os.PathLike],
                       identity: Mapping[str, str],
                       num_samples: int,
                       run: Callable[[int], Iterable[ExitLogits]],
                       description: str = 'running') -> CachedLogits:
    """Take logits from the cache, and run what is missing.

    Args:
        root (str | PathLike): Folder of all caches; each identity has a
            folder of its own in it.
        identity (Mapping[str, str]): Fingerprints of all that the logits
            depend on. A cache with another identity is not used.
        num_samples (int): Number of samples in the data.
        run (Callable): Called with the index of the first sample to run,
            gives the logits of that and all later ones, batch by batch.
        description (str): Stands beside the progress bar.

    Raises:
        InputError: If there are no samples.
    """
    if num_samples == 0:
        raise InputError(f'there are no images for {description}')
    folder = Path(root) / settings_fingerprint(dict(identity))[:16]
    parts = _read_parts(folder, identity, num_samples)
    reused = sum(len(part.paths) for part in parts)
    if reused < num_samples:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / 'identity.json', dict(identity))
        with progress_bar() as bar:
            task = bar.add_task(
                description, total=num_samples, completed=reused)
            for part in _write_parts(folder, reused, run(reused)):
                parts.append(part)
                bar.advance(task, len(part.paths))
    exits = ExitLogits.join(parts)
    if len(exits.paths) != num_samples:
        raise InputError(f'the data gave {len(exits.paths)} images instead '
                         f'of {num_samples}: they have changed on the way')
    return CachedLogits(exits, reused, folder)


def _read_parts(folder: Path, identity: Mapping[str, str],
                num_samples: int) -> List[ExitLogits]:
    """Read whole parts from the first sample on, up to the first gap."""
    try:
        known = json.loads((folder / 'identity.json').read_text())
    except (OSError, ValueError):
        return []
    if known != dict(identity):
        return []
    parts: List[ExitLogits] = []
    start = 0
    while start < num_samples:
        try:
            content = read_checkpoint(folder / PART.format(start))
            part = ExitLogits(
                tuple(content['logits']), content['labels'], content['paths'],
                tuple(content['macs']), content.get('utility'))
        except (OSError, KeyError, TypeError, ValueError):
            break  # not there, or not whole: run it again
        if not len(part.paths):
            break
        parts.append(part)
        start += len(part.paths)
    return parts


def _write_parts(folder: Path, start: int,
                 batches: Iterable[ExitLogits]) -> Iterator[ExitLogits]:
    """Pass batches on and write them, several in one file."""
    pending: List[ExitLogits] = []
    begun = time.monotonic()
    try:
        for batch in batches:
            pending.append(batch)
            count = sum(len(part.paths) for part in pending)
            if count >= PART_SIZE or time.monotonic() - begun > PART_AGE:
                _write_part(folder, start, pending)
                start, pending, begun = start + count, [], time.monotonic()
            yield batch
    finally:
        # Also after an interrupt: the next run goes on from here.
        if pending:
            _write_part(folder, start, pending)


def _write_part(folder: Path, start: int, batches: List[ExitLogits]) -> None:
    """Write one part, whole or not at all."""
    part = ExitLogits.join(batches)
    content = dict(part._asdict(), logits=list(part.logits))
    atomic_save(
        dict(content, macs=list(part.macs)), folder / PART.format(start))
