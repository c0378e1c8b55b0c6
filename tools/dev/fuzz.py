# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Damage the files that the package reads, and see that each is refused well.

    python tools/dev/fuzz.py --seconds 60               # all kinds of files
    python tools/dev/fuzz.py --kind checkpoint --case 17     # one case again

Each case damages one small file. What reads it may take it (if what it then
gives is whole) or refuse it with an error of one line. Anything else, a
crash of the process and a hang included, is printed with the command that
repeats it, and the exit status is 1 if a second run of the case repeats it.
"""
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

from case_options import cases, parse_args

from fuzz_kinds import KINDS, Fault, Files

# Memory that a case may take beyond what the process has, in bytes.
MEMORY = 4 * 2**30
# After so many a process ends, for they wait in a pipe.
MOST_FAULTS = 50
# Seconds in which a case has to end.
PATIENCE = 90.


def run_cases(kind: str, first: int, most: int, seconds: float, folder: str,
              current: Any, faults: Any) -> None:
    """Run cases in this process, which may not survive them.

    The number of the case that runs goes to ``current``, and what falls
    through to ``faults``.
    """
    warnings.simplefilter('ignore')
    with contextlib.suppress(OSError), open('/proc/self/statm') as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS,
                           (used + MEMORY, resource.RLIM_INFINITY))
    run, count = KINDS[kind](Files(folder)), 0
    for number in cases(first, most, seconds):
        current.value = number
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                run(random.Random(f'{kind} {number}'))
        except Fault as fault:
            faults.put((number, str(fault)[:500]))
            count += 1
        if count == MOST_FAULTS:
            break


def watch(kind: str, first: int, most: int,
          seconds: float) -> Tuple[int, List[Tuple[int, str]]]:
    """Run cases of a kind in processes of their own.

    Returns:
        tuple: How many cases ran, and (number, text) of each fault.
    """
    context = multiprocessing.get_context('fork')
    end, number, found = time.monotonic() + seconds, first, []
    while number < first + most and (number == first
                                     or time.monotonic() < end):
        current, faults = context.Value('q', number), context.SimpleQueue()
        with tempfile.TemporaryDirectory() as folder:
            process = context.Process(
                target=run_cases,
                args=(kind, number, first + most - number,
                      end - time.monotonic(), folder, current, faults))
            process.start()
            fault = _wait(process, current)
        while not faults.empty():
            found.append(faults.get())
        number = current.value + 1
        if fault is None:
            break
        found.append((current.value, fault))
    return number - first, found


def _wait(process: Any, current: Any) -> Optional[str]:
    """Wait for a process; how it ended badly, if it did."""
    seen, since = current.value, time.monotonic()
    while process.is_alive():
        process.join(.05)
        if current.value != seen:
            seen, since = current.value, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            return f'did not end in {PATIENCE:.0f} s'
    code = process.exitcode
    return f'the process ended with code {code}' if code else None


def main() -> int:
    """Run what the command line asks for."""
    args = parse_args('Damage files and see that they are refused well.',
                      'kind', KINDS)
    failed = False
    for kind in args.names:
        count, faults = watch(kind, args.seed, args.most, args.seconds)
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
