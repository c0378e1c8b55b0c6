# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Train, go on with an interrupted training, or take a finished one."""
import io
import logging
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Callable, Optional, Sequence

from mmengine.config import Config
from mmengine.runner import Runner

from ..compat.checkpoint_files import find_latest_checkpoint
from .tool_runner import build_runner

__all__ = ['forget_checkpoints', 'latest_checkpoint', 'train_or_resume']


def latest_checkpoint(work_dir: Path) -> Optional[Path]:
    """The newest whole checkpoint of an earlier run, if there is one."""
    found = find_latest_checkpoint(str(work_dir))
    return work_dir / Path(found).name if found else None


def forget_checkpoints(work_dir: Path) -> None:
    """Remove the checkpoints; the rest of the folder may be the user's own."""
    for path in work_dir.glob('epoch_*.pth'):
        path.unlink()
    (work_dir / 'last_checkpoint').unlink(missing_ok=True)


def train_or_resume(
    config: Config, say: Callable[[str],
                                  None], splits: Sequence[str] = ()) -> Runner:
    """Train in ``work_dir``; the log goes to a file, a bar to the console.

    Args:
        config (Config): The whole config.
        say (Callable): Prints a line.
        splits (Sequence[str]): Data to check first, see :func:`build_runner`.

    Returns:
        Runner: With the trained model.
    """
    work_dir = Path(config.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    found = latest_checkpoint(work_dir)
    runner = _build(config, found, splits)
    if found and found.name == f'epoch_{runner.max_epochs}.pth':
        say(f'{found} is trained already; --fresh trains anew')
        with redirect_stdout(io.StringIO()):
            runner.load_checkpoint(str(found))
        return runner
    if found:
        say(f'going on from {found}')
    start = time.perf_counter()
    runner.train()
    say(f'trained in {time.perf_counter() - start:.0f} s')
    return runner


def _build(config: Config, found: Optional[Path],
           splits: Sequence[str]) -> Runner:
    """Build the runner with a progress bar and a silent console."""
    config.custom_hooks = [
        *config.get('custom_hooks', ()),
        dict(type='ProgressBarHook')
    ]
    if found is not None:
        config.resume, config.load_from = True, str(found)
    # The runner's console handler keeps the stream that it finds here.
    with redirect_stdout(io.StringIO()):
        runner = build_runner(config, splits)
    for handler in runner.logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)
            handler.setLevel(logging.ERROR)
    return runner
