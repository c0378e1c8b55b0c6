# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Kill programs at any moment, and see that the next run goes on.

    python tools/dev/kill.py --seconds 60
    python tools/dev/kill.py --job train --seed 17      # from this kill on

After each kill, every file is absent, as it was or whole. The same command
then ends well, and leaves nothing of the killed run behind. What does not is
printed with the command that repeats it, and the exit status is 1.
"""
import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Callable, List, Optional

from kill_jobs import JOBS, Job

LEFTOVERS = ('*.tmp', '.report.*', '*.partial', '*.part')
# Seconds after which a program hangs.
PATIENCE = 120.


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Kill programs at any moment, and run them again.')
    parser.add_argument(
        '--job',
        nargs='+',
        choices=sorted(JOBS),
        default=sorted(JOBS),
        help='programs (default: all)')
    parser.add_argument(
        '--seconds',
        type=float,
        default=60.,
        help='how long, shared out over the programs (default: 60)')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='number of the first kill of each program (default: 0)')
    return parser.parse_args()


def run_child(function: Callable[[], Optional[int]],
              log: Path,
              kill_after: Optional[float] = None) -> Optional[int]:
    """Run a function in a process of its own.

    Args:
        function (Callable): Returns an exit status, or None for 0.
        log (Path): Gets what it prints.
        kill_after (float, optional): Seconds until it is killed.

    Returns:
        int | None: Its exit status; None if it was killed.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            status = function() or 0
        except SystemExit as stop:
            if isinstance(stop.code, str):
                print(stop.code, file=sys.stderr)
            status = int(stop.code not in (None, 0))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    end = time.monotonic() + (PATIENCE if kill_after is None else kill_after)
    while time.monotonic() < end:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(code)
        time.sleep(.002)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def leftovers(folder: Path) -> List[str]:
    """What a killed run has left behind."""
    return sorted(
        path.relative_to(folder).as_posix() for pattern in LEFTOVERS
        for path in folder.rglob(pattern))


def one_kill(job: Job, start: Path, duration: float,
             rng: random.Random) -> Optional[str]:
    """Kill a program once and run it again; what is wrong, or None.

    Args:
        job (Job): The program.
        start (Path): Folder with what it needs; a copy of it is used.
        duration (float): Seconds that a whole run takes.
        rng (Random): Chooses the moment.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / 'run'
        shutil.copytree(start, folder)
        log = Path(temporary) / 'log'
        kills = rng.choice((1, 1, 2))
        for _ in range(kills):
            moment = rng.random() * duration
            run_child(lambda: job.run(folder), log, moment)
            try:
                job.check(folder, False)
            except Exception as error:
                return f'killed after {moment:.2f} s: {error!r}'
        status = run_child(lambda: job.run(folder), log)
        last = (log.read_text(errors='replace').strip().splitlines()
                or ['no output'])[-1]
        if status != 0:
            return f'killed after {moment:.2f} s, then status {status}: {last}'
        try:
            job.check(folder, True)
        except Exception as error:
            return f'killed after {moment:.2f} s, then {error!r}'
        left = leftovers(folder)
        return f'left behind: {", ".join(left)}' if left else None


def run_job(name: str, start: Path, first: int, seconds: float) -> bool:
    """Kill a program again and again; whether all went well."""
    job = JOBS[name]
    log = start.parent / 'log'
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / 'run'
        shutil.copytree(start, whole)
        begun = time.monotonic()
        status = run_child(lambda: job.run(whole), log)
        duration = time.monotonic() - begun
        if status != 0:
            print(f'{name}: does not run at all:\n{log.read_text()[-2000:]}')
            return False
        job.check(whole, True)
    number, faults = first, 0
    begun = time.monotonic()
    while number == first or time.monotonic() < begun + seconds:
        text = one_kill(job, start, duration,
                        random.Random(f'{name} {number}'))
        if text is not None:
            faults += 1
            print(f'  python tools/dev/kill.py --job {name} --seed {number}\n'
                  f'    {text}')
        number += 1
    print(f'{name}: {number - first} kills, {faults} faults', flush=True)
    return not faults


def main() -> int:
    """Run what the command line asks for."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        start = Path(temporary) / 'start'
        start.mkdir()
        log = Path(temporary) / 'log'
        for job in JOBS.values():
            if run_child(lambda: job.prepare(start), log) != 0:
                print(f'cannot prepare:\n{log.read_text()[-2000:]}')
                return 1
        good = [
            run_job(name, start, args.seed, args.seconds / len(args.job))
            for name in args.job
        ]
    return int(not all(good))


if __name__ == '__main__':
    sys.exit(main())
