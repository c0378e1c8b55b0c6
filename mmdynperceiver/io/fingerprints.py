# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Short names for weights, data and settings that change when they do."""
import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import (Any, Dict, Iterable, List, Mapping, Optional, Sequence,
                    Tuple, Union)

import torch
from torch import Tensor

from ..progress import progress_bar
from .atomic import write_json
from .checksums import file_sha256

__all__ = [
    'content_digests', 'data_fingerprint', 'settings_fingerprint',
    'weights_fingerprint'
]

# A file that changes again within a tick of the file system's clock looks
# the same: what is this new (in ns) is not remembered.
RACY = 2 * 10**9
WORKERS = 8

# The exit policy travels in the state dict, but changes no logit.
POLICY_STATE = 'policy._extra_state'


def weights_fingerprint(weights: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and values of a state dict.

    The thresholds that it carries do not count: a copy of a checkpoint that
    has been given an operating point is still the same network.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        if name.endswith(POLICY_STATE):
            continue
        value = weights[name]
        if not isinstance(value, Tensor):
            digest.update(f'{name}={value!r};'.encode())
            continue
        digest.update(f'{name}:{value.dtype}:{tuple(value.shape)};'.encode())
        raw = value.detach().cpu().contiguous().reshape(-1)
        digest.update(raw.view(torch.uint8).numpy())
    return digest.hexdigest()


def data_fingerprint(root: str,
                     samples: Iterable[Sequence[Any]],
                     memory: Optional[Union[str, os.PathLike]] = None,
                     description: str = 'reading') -> str:
    """SHA-256 of labelled images, wherever their folder ``root`` stands.

    It is over relative paths, contents of the files and labels.

    Args:
        root (str): Folder from which paths count.
        samples (Iterable[Sequence]): Path and label of each image, in order,
            and what else counts, as text. A path may be that of a folder of
            frames, or any other name of the image.
        memory (str | PathLike, optional): Folder that remembers what is in
            files, see :func:`content_digests`. Defaults to None.
        description (str): Stands beside the progress bar. Defaults to
            'reading'.
    """
    samples = list(samples)
    paths = [sample[0] for sample in samples]
    if memory is not None:
        # One for each list of images, so that what is gone is forgotten.
        name = settings_fingerprint(paths)[:16]
        memory = os.path.join(memory, f'{name}.json')
    contents = content_digests(paths, memory, description)
    lines = []
    for (path, *others), content in zip(samples, contents):
        name = os.path.relpath(path, root) if content and root else path
        lines.append('\0'.join(map(str, (name, content, *others))) + '\n')
    return _sha256(''.join(lines))


def settings_fingerprint(settings: Any) -> str:
    """SHA-256 of a part of a config; the order of keys does not count."""
    return _sha256(json.dumps(settings, sort_keys=True, default=repr))


def content_digests(paths: Sequence[str],
                    memory: Optional[Union[str, os.PathLike]] = None,
                    description: str = 'reading') -> List[str]:
    """Digest of the content of each file, or of all files of a folder.

    With a memory, a file is only read again if its size, its inode, the time
    of its last change or that of its status is another one. The last is set
    by the system alone, so that a file that was given its old time back is
    read again.

    Args:
        paths (Sequence[str]): Files, folders of frames, or other names.
        memory (str | PathLike, optional): File that remembers what was read;
            its folder is made. Defaults to None.
        description (str): Beside the progress bar. Defaults to 'reading'.

    Returns:
        list[str]: For each path; '' where there is no such file.
    """
    known = _recall(memory)
    now = time.time_ns()
    with ThreadPoolExecutor(WORKERS) as pool:
        states = list(pool.map(_state_of, paths))
        found: List[str] = []
        stale: List[int] = []
        for index, (path, state) in enumerate(zip(paths, states)):
            before = known.get(os.path.abspath(path), ('', ''))
            found.append(before[1] if state and before[0] == state[0] else '')
            if state and not found[-1]:
                stale.append(index)
        if not stale:
            return found
        with progress_bar() as bar:
            task = bar.add_task(description, total=len(stale))
            for index, digest in zip(
                    stale, pool.map(_digest_of, [paths[i] for i in stale])):
                found[index] = digest
                bar.advance(task)
    if memory is not None:
        os.makedirs(os.path.dirname(os.fspath(memory)) or '.', exist_ok=True)
        write_json(
            memory, {
                os.path.abspath(path): (state[0], digest)
                for path, state, digest in zip(paths, states, found)
                if state and state[1] + RACY < now
            })
    return found


def _recall(
        memory: Optional[Union[str,
                               os.PathLike]]) -> Dict[str, Tuple[str, str]]:
    """What is remembered: path -> state and digest."""
    try:
        content = json.loads(Path(memory or '').read_text('utf-8'))
        return {
            path: (str(row[0]), str(row[1]))
            for path, row in content.items()
        }
    except (OSError, ValueError, AttributeError, LookupError, TypeError,
            RecursionError):
        return {}  # none, or not whole: read the files


def _parts(path: str) -> List[Tuple[str, str]]:
    """Name and path of a file, or of a folder's files in their order."""
    if not os.path.isdir(path):
        return [('', path)]
    with os.scandir(path) as entries:
        return sorted((e.name, e.path) for e in entries if e.is_file())


def _state_of(path: str) -> Optional[Tuple[str, int]]:
    """What changes with a file or a folder's files, and when it last did."""
    try:
        parts = [(name, os.stat(file)) for name, file in _parts(path)]
    except OSError:  # not a local file
        return None
    state = _sha256(''.join(
        f'{name}\0{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}\n'
        for name, s in parts))
    return state, max((max(s.st_mtime_ns, s.st_ctime_ns) for _, s in parts),
                      default=0)


def _digest_of(path: str) -> str:
    """Digest of a file's content, or of a folder's files and their names."""
    found = [(name, file_sha256(part)) for name, part in _parts(path)]
    if not os.path.isdir(path):
        return found[0][1]
    return _sha256(''.join(f'{name}\0{text}\n' for name, text in found))


def _sha256(text: str) -> str:
    """Digest of a text."""
    return hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()
