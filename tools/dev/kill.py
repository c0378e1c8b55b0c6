# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Kill programs at any moment, and see that the next run goes on.

    python tools/dev/kill.py --seconds 60
    python tools/dev/kill.py --job train --case 17      # this kill again

After each kill, every file is absent, as it was or whole. The same command
then ends well, and leaves nothing of the killed run behind. What does not is
printed with the command that repeats it, and the exit status is 1.
"""
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Optional

from case_options import cases, parse_args

from kill_jobs import JOBS, Job

LEFTOVERS = ('*.tmp', '.report.*', '*.partial', '*.part')
# Seconds after which a program hangs.
PATIENCE = 120.


def run_child(function: Callable[[], Optional[int]],
              log: Path,
              kill_after: Optional[float] = None) -> Optional[int]:
    """Run a function, which returns an exit status, in a process of its own.

    ``log`` gets what it prints. Returns its status; None if it was killed,
    after so many seconds.
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


def fault_of(check: Callable[..., Any], *args: Any) -> Optional[str]:
    """What a check finds wrong, or None."""
    try:
        check(*args)
        return None
    except Exception as error:
        return repr(error)


def one_kill(job: Job, start: Path, duration: float,
             rng: random.Random) -> Optional[str]:
    """Kill a program once and run it again; what is wrong, or None.

    What it needs is in ``start``, and a whole run takes ``duration`` seconds.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder, log = Path(temporary) / 'run', Path(temporary) / 'log'
        shutil.copytree(start, folder)
        for _ in range(rng.choice((1, 1, 2))):
            moment = rng.random() * duration
            run_child(lambda: job.run(folder), log, moment)
            fault = fault_of(job.check, folder, False)
            if fault:
                return f'killed after {moment:.2f} s: {fault}'
        status = run_child(lambda: job.run(folder), log)
        if status != 0:
            last = log.read_text(errors='replace').strip().splitlines()
            fault = f'status {status}: {(last or ["no output"])[-1]}'
        else:
            fault = fault_of(job.check, folder, True)
        if fault:
            return f'killed after {moment:.2f} s, then {fault}'
        left = sorted(
            path.relative_to(folder).as_posix() for pattern in LEFTOVERS
            for path in folder.rglob(pattern))
        return f'left behind: {", ".join(left)}' if left else None


def run_job(name: str, start: Path, first: int, most: int,
            seconds: float) -> bool:
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
    count = faults = 0
    for number in cases(first, most, seconds):
        count += 1
        text = one_kill(job, start, duration,
                        random.Random(f'{name} {number}'))
        if text is not None:
            faults += 1
            print(f'  python tools/dev/kill.py --job {name} --case {number}\n'
                  f'    {text}')
    print(f'{name}: {count} kills, {faults} faults', flush=True)
    return not faults


def main() -> int:
    """Run what the command line asks for."""
    args = parse_args('Kill programs at any moment, and run them again.',
                      'job', JOBS)
    with tempfile.TemporaryDirectory() as temporary:
        start, log = Path(temporary) / 'start', Path(temporary) / 'log'
        start.mkdir()
        for job in JOBS.values():
            if run_child(lambda: job.prepare(start), log) != 0:
                print(f'cannot prepare:\n{log.read_text()[-2000:]}')
                return 1
        good = [
            run_job(name, start, args.seed, args.most, args.seconds)
            for name in args.names
        ]
    return int(not all(good))


if __name__ == '__main__':
    sys.exit(main())
