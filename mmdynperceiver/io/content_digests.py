# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What is in files, read again only where they may have changed."""
import hashlib
import json
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

from ..progress import progress_bar
from .atomic import write_json

__all__ = ['content_digests']

# A file that changes again within a tick of the file system's clock looks
# the same: what is this new (in ns) is not remembered.
RACY = 2 * 10**9
BLOCK = 1 << 20
WORKERS = 8


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

    Raises:
        OSError: If a file cannot be read.
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


def _state_of(path: str) -> Optional[Tuple[str, int]]:
    """What changes with a file or a folder's files, and when it last did."""
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return _join([('', status)])
        return _join([(entry.name, entry.stat()) for entry in _files(path)])
    except OSError:  # not a local file
        return None


def _join(parts: List[Tuple[str, os.stat_result]]) -> Tuple[str, int]:
    """One state of several files."""
    text = ''.join(f'{name}\0{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} '
                   f'{s.st_ino}\n' for name, s in parts)
    newest = max((max(s.st_mtime_ns, s.st_ctime_ns) for _, s in parts),
                 default=0)
    return _sha256(text.encode('utf-8', 'surrogateescape')), newest


def _files(folder: str) -> List[os.DirEntry]:
    """Files of a folder, in the order of their names."""
    with os.scandir(folder) as entries:
        files = [entry for entry in entries if entry.is_file()]
    return sorted(files, key=lambda entry: entry.name)


def _digest_of(path: str) -> str:
    """Digest of a file's content, or of a folder's files and their names."""
    if not os.path.isdir(path):
        return _content(path)
    text = ''.join(f'{entry.name}\0{_content(entry.path)}\n'
                   for entry in _files(path))
    return _sha256(text.encode('utf-8', 'surrogateescape'))


def _content(path: str) -> str:
    """Digest of a file's content."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _sha256(content: bytes) -> str:
    """Digest of bytes."""
    return hashlib.sha256(content).hexdigest()
