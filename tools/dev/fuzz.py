# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Damage the files that the package reads, and see that each is refused well.

    python tools/dev/fuzz.py --seconds 60               # all kinds of files
    python tools/dev/fuzz.py --kind checkpoint --case 17     # one case again

Each case damages one small file. What reads it may take it (if what it then
gives is whole) or refuse it with an error of one line. Anything else, a
crash of the process and a hang included, is printed with the command that
repeats it, and the exit status is 1 if a second run of the case repeats it.
"""
import argparse
import contextlib
import io
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from typing import Any, List, Optional, Tuple

from fuzz_kinds import KINDS, Fault

# Memory that a case may take beyond what the process has, in bytes.
MEMORY = 4 * 2**30
# After so many a process ends, for they wait in a pipe.
MOST_FAULTS = 50
# Seconds in which a case has to end.
PATIENCE = 90.


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Damage files and see that they are refused well.')
    parser.add_argument(
        '--kind',
        nargs='+',
        choices=sorted(KINDS),
        default=sorted(KINDS),
        help='kinds of files (default: all)')
    parser.add_argument(
        '--seconds',
        type=float,
        default=60.,
        help='how long, shared out over the kinds (default: 60)')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='number of the first case of each kind (default: 0)')
    parser.add_argument(
        '--most',
        type=int,
        default=sys.maxsize,
        help='run no more than so many cases of each kind')
    parser.add_argument('--case', type=int, help='run this one case only')
    return parser.parse_args()


def run_cases(kind: str, numbers: range, deadline: float, folder: str,
              current: Any, faults: Any) -> None:
    """Run cases in this process, which may not survive them.

    Args:
        kind (str): Kind of files.
        numbers (range): Numbers of the cases, which fix all.
        deadline (float): When to stop, as ``time.monotonic`` counts.
        folder (str): Where the files are written.
        current (Value): Gets the number of the case that runs.
        faults (Queue): Gets (number, text) of what falls through.
    """
    warnings.simplefilter('ignore')
    used = int(open('/proc/self/statm').read().split()[0]) * 4096 \
        if os.path.exists('/proc/self/statm') else None
    if used is not None:
        resource.setrlimit(resource.RLIMIT_AS,
                           (used + MEMORY, resource.RLIM_INFINITY))
    target = KINDS[kind](os.path.join(folder, kind))
    count = 0
    for number in numbers:
        # The first case runs in any case, however long it took to prepare.
        late = number != numbers[0] and time.monotonic() > deadline
        if late or count == MOST_FAULTS:
            break
        current.value = number
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                target.run(random.Random(f'{kind} {number}'))
        except Fault as fault:
            faults.put((number, str(fault)[:500]))
            count += 1


def watch(kind: str, first: int, most: int,
          seconds: float) -> Tuple[int, List[Tuple[int, str]]]:
    """Run cases of a kind in processes of their own, and count them.

    Args:
        kind (str): Kind of files.
        first (int): Number of the first case.
        most (int): How many at most.
        seconds (float): How long at most, but for the first case.

    Returns:
        tuple: How many cases ran, and (number, text) of each fault.
    """
    context = multiprocessing.get_context('fork')
    start, number, found = time.monotonic(), first, []
    while number < first + most and (number == first
                                     or time.monotonic() < start + seconds):
        numbers = range(number, first + most)
        current, faults = context.Value('q', number), context.SimpleQueue()
        with tempfile.TemporaryDirectory() as folder:
            process = context.Process(
                target=run_cases,
                args=(kind, numbers, start + seconds, folder, current, faults))
            process.start()
            last, fault = _wait(process, current, number)
        while not faults.empty():
            found.append(faults.get())
        number = last + 1
        if fault is None:
            break
        found.append((last, fault))
    return number - first, found


def _wait(process: Any, current: Any,
          number: int) -> Tuple[int, Optional[str]]:
    """Wait for a process; the last case it ran, and how it ended badly."""
    seen, since = number, time.monotonic()
    while process.is_alive():
        process.join(.05)
        value = current.value
        if value != seen:
            seen, since = value, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            return seen, f'did not end in {PATIENCE:.0f} s'
    seen = current.value
    if process.exitcode:
        return seen, f'the process ended with code {process.exitcode}'
    return seen, None


def main() -> int:
    """Run what the command line asks for."""
    args = parse_args()
    failed = False
    for kind in args.kind:
        first = args.seed if args.case is None else args.case
        most = args.most if args.case is None else 1
        count, faults = watch(kind, first, most, args.seconds / len(args.kind))
        print(f'{kind}: {count} cases, {len(faults)} faults', flush=True)
        for number, text in faults[:10]:
            # A busy machine may end or stop a process, too.
            again = watch(kind, number, 1, 0.)[1]
            failed = failed or bool(again)
            print(f'  python tools/dev/fuzz.py --kind {kind} --case {number}\n'
                  f'    {text[:300]}' +
                  ('' if again else '\n    (not when it was run again)'))
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
