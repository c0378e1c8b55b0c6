# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Let mmengine's checkpoints survive a kill and a full disk.

mmengine deletes the oldest checkpoint, then writes the new one in place: a
run that is killed meanwhile with ``max_keep_ckpts=1`` has lost both. Resuming
takes what ``last_checkpoint`` names, whole or not. Here files are written
aside, synced and renamed, older ones are deleted last, and resuming takes the
newest whole one. What is read is checked for damage first.
"""
from __future__ import annotations
import contextlib
import functools
import logging
import os
import os.path as osp
from collections import deque
from types import ModuleType
from typing import Any, Iterator

from .import_hooks import after_import, extends, replace_everywhere

HOOK = 'mmengine.hooks.checkpoint_hook'
# What resuming needs; a file of the weights alone lacks some.
RESUMED = ('meta', 'state_dict', 'message_hub', 'optimizer')


@after_import('mmengine.runner.checkpoint')
def check_checkpoint_files(module: ModuleType) -> None:
    """Patch how ``mmengine.runner.checkpoint`` reads and writes files."""
    load, save = module.load_from_local, module.save_checkpoint

    @functools.wraps(load)
    def load_from_local(filename: str, map_location: Any) -> Any:
        from ..io.checkpoint_scan import check_file
        path = osp.expanduser(filename)
        if osp.isfile(path):
            try:
                check_file(path)
            except ValueError as error:
                raise ValueError(f'{filename!r} is no whole checkpoint: '
                                 f'{error}') from error
        return load(filename, map_location)

    @functools.wraps(save)
    def save_checkpoint(checkpoint: dict,
                        filename: str,
                        file_client_args: dict | None = None,
                        backend_args: dict | None = None) -> None:
        from mmengine.fileio import LocalBackend, get_file_backend
        if file_client_args is None and '://' not in filename and isinstance(
                get_file_backend(filename, backend_args=backend_args),
                LocalBackend):
            from ..io.checkpoint_file import atomic_save
            os.makedirs(osp.dirname(filename) or '.', exist_ok=True)
            atomic_save(checkpoint, filename)
        else:
            save(checkpoint, filename, file_client_args, backend_args)

    module.CheckpointLoader._schemes[''] = load_from_local
    for function in (load_from_local, save_checkpoint, find_latest_checkpoint):
        replace_everywhere(module, function)


@after_import(HOOK)
def write_last_checkpoint_atomically(module: ModuleType) -> None:
    """Patch how ``mmengine.hooks.checkpoint_hook`` writes its small file."""
    # It opens no other one.
    module.open = _open_atomic  # type: ignore[attr-defined]


@contextlib.contextmanager
def _open_atomic(path: str, mode: str = 'r') -> Iterator[Any]:
    """Stand in for ``open`` where a small text is written."""
    from ..io.atomic import atomic_file
    with atomic_file(path) as temporary, open(temporary, mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@extends(HOOK, 'CheckpointHook', '_save_checkpoint_with_step')
def _prune_last(module, save, self, runner, step, meta):
    """Delete the checkpoints that are too many when the new one is there."""
    limit = self.max_keep_ckpts
    if limit <= 0:
        save(self, runner, step, meta)
        return
    kept = self.keep_ckpt_ids
    # One more while both are there. The file says so, too: should the run be
    # killed before it deletes the older one, the next run does.
    self.max_keep_ckpts = limit + 1
    self.keep_ckpt_ids = deque(kept)
    try:
        save(self, runner, step, meta)
        kept = self.keep_ckpt_ids
    finally:
        self.max_keep_ckpts = limit
        self.keep_ckpt_ids = kept
    while len(kept) > limit:
        path = self.file_backend.join_path(
            self.out_dir, self.filename_tmpl.format(kept.popleft()))
        _remove(self.file_backend, path, self.last_ckpt)
    runner.message_hub.update_info('keep_ckpt_ids', list(kept))


def _remove(backend: Any, path: str, but: str | None) -> None:
    """Delete a checkpoint, which is a folder where deepspeed wrote it."""
    from mmengine.dist import is_main_process
    if path == but or not is_main_process():
        return
    if backend.isfile(path):
        backend.remove(path)
    elif backend.isdir(path):
        backend.rmtree(path)


class _RemovesLater:
    """A file backend that notes what is to be deleted."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.noted: list[str] = []
        self.remove = self.rmtree = self.noted.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


@extends(HOOK, 'CheckpointHook', '_save_best_checkpoint')
def _remove_last(module, save, self, runner, metrics):
    """Delete the older best checkpoint when the new one is there."""
    backend = self.file_backend
    later = self.file_backend = _RemovesLater(backend)
    try:
        save(self, runner, metrics)
    finally:
        self.file_backend = backend
    best = getattr(self, 'best_ckpt_path_dict', None) or {}
    new = {getattr(self, 'best_ckpt_path', None), *best.values()}
    for path in later.noted:
        # A run that was resumed from another folder leaves that alone.
        if path not in new and osp.dirname(path) == self.out_dir:
            _remove(backend, path, None)


def find_latest_checkpoint(path: str) -> str | None:
    """Find the newest whole checkpoint of a work folder, if there is one.

    That is the one that ``last_checkpoint`` names, unless it is damaged or a
    later one was complete when the run was killed. What is skipped is logged
    with the reason.
    """
    named, since = _last_saved(path)
    if named is not None and (osp.isdir(named) or '://' in named):
        return named  # of deepspeed, or not on this machine
    progress = None if named is None else _progress(named)
    found = None if progress is None else named
    # Further checkpoints beside it and there, the newest first.
    others = {
        osp.join(folder, name)
        for folder in {path, osp.dirname(named or '') or path}
        if osp.isdir(folder) for name in os.listdir(folder)
        if name.endswith('.pth') and not name.startswith('best_')
    } - {named}
    for other in sorted(
            filter(osp.isfile, others), key=osp.getmtime, reverse=True):
        if found is not None and osp.getmtime(other) <= since:
            break
        reached = _progress(other, RESUMED)
        if reached is not None and (found is None or reached > progress):
            return other
    if found is None and named is not None:
        _warn('no whole checkpoint is left: training starts anew')
    return found


def _last_saved(path: str) -> tuple[str | None, float]:
    """What ``last_checkpoint`` names, and when it was written."""
    file = osp.join(path, 'last_checkpoint')
    if not osp.isfile(file):
        return None, 0.
    with open(file, 'rb') as content:
        named = content.read(4096).decode(errors='replace').strip()
    if not named or '\0' in named:
        return None, 0.
    # The folder may have been moved or copied.
    here = osp.join(path, osp.basename(named))
    return here if osp.exists(here) else named, osp.getmtime(file)


def _progress(path: str, needed: tuple[str, ...] = ()) -> int | None:
    """Iterations of a checkpoint; None if it is not whole or lacks a part."""
    from ..io.checkpoint_file import read_checkpoint
    try:
        content = read_checkpoint(path)
    except (OSError, ValueError) as error:
        _warn(f'skipped while looking for the latest checkpoint: {error}')
        return None
    if any(name not in content for name in needed):
        return None
    meta = content.get('meta')
    steps = meta.get('iter') if isinstance(meta, dict) else None
    return steps if isinstance(steps, int) else 0


def _warn(message: str) -> None:
    """Log a warning."""
    from mmengine.logging import print_log
    print_log(message, logger='current', level=logging.WARNING)
