# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Set up ``.venv`` in the checkout with the pinned reference stack.

Two profiles share the environment. ``demo`` needs no compiler. ``test`` adds
mmaction2, mmdet and the tools, and replaces mmcv-lite by mmcv with compiled
operators. Each step leaves a stamp with a hash of what it installed: an
interrupted run goes on where it stopped, and a run with nothing to do takes
a moment.

Compiled wheels are kept in ``$MMDYNPERCEIVER_CACHE/wheels`` (by default
``${XDG_CACHE_HOME:-~/.cache}/mmdynperceiver/wheels``), one folder for each
torch, Python and platform. ``FORCE_CUDA=1`` builds them for CUDA.
"""
import argparse
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from checks import Missing, check_disk, check_python, remedy_for
from console import CommandFailed, Console, duration
from environment import Environment
from steps import make_steps

ROOT = Path(__file__).resolve().parents[2]


def parse_args():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('profile', choices=('demo', 'test'))
    parser.add_argument(
        '--renew-python',
        action='store_true',
        help='make .venv anew if it was made with another Python version')
    return parser.parse_args()


def lock(folder):
    """Let one set-up of this checkout run at a time.

    The lock is on a folder of the checkout itself, so that it leaves no file
    behind, and ends with the process whatever happens to it.
    """
    handle = os.open(str(folder), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print('Another set-up of this checkout is running; waiting for it.')
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks
    return handle


def set_up(environment, console):
    """Run the steps that are not done yet.

    Args:
        environment (Environment): What to set up.
        console (Console): Where progress goes.
    """
    steps = make_steps(environment)
    pending = [step for step in steps if not step.is_done()]
    if not pending:
        console.say('Environment .venv is ready for {} (Python {}).'.format(
            environment.profile, environment.python_version()))
        return
    for step in pending:
        step.check()
    check_disk(environment.root, sum(step.disk_gb for step in pending) + 1)
    console.say(
        'Setting up .venv for {}: {} of {} steps to do; log in {}'.format(
            environment.profile, len(pending), len(steps),
            console.log_path.relative_to(environment.root)))
    start = time.monotonic()
    for number, step in enumerate(steps, 1):
        if not step.is_done():
            console.step(number, len(steps), step.title, step.hint)
            step.perform()
            console.done()
    shutil.rmtree(environment.temporary, ignore_errors=True)
    console.say('Environment .venv is ready for {} after {}.'.format(
        environment.profile, duration(time.monotonic() - start)))


def main():
    """Set up the environment, or say in a line why it cannot be."""
    args = parse_args()
    handle = lock(ROOT / 'tools')
    # `kill` and a CI's time limit clean up just as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(ROOT / '.venv' / 'bootstrap.log')
    try:
        check_python(args.profile)
        environment = Environment(
            ROOT, args.profile, console, renew_python=args.renew_python)
        set_up(environment, console)
    except Missing as error:
        console.say('Error: {}'.format(error))
        return 1
    except CommandFailed as error:
        for line in error.tail:
            console.say('      | ' + line.strip())
        console.say('Error: {} (log: {})'.format(
            remedy_for(error.output), console.log_path.relative_to(ROOT)))
        return 1
    except OSError as error:
        console.say('Error: {}'.format(error))
        return 1
    except KeyboardInterrupt:
        console.say('Interrupted; the same command goes on from here.')
        return 130
    finally:
        os.close(handle)
    return 0


if __name__ == '__main__':
    sys.exit(main())
