# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Jobs of ``mmdynperceiver predict``: many images, results in a folder."""
import argparse
import os
import sys
from typing import List, Sequence, Tuple

from ..datasets.image_files import Broken
from ..deploy.jobs import BROKEN, Job, Summary, open_job, run_job
from ..deploy.manifest import MANIFEST
from ..deploy.printing import Count, say_skipped
from ..deploy.runner import Runner
from ..deploy.stream import Classified
from ..deploy.threads import available_threads
from ..errors import InputError
from ..io.result_file import (ENDINGS, INTERRUPTED, import_pyarrow, printable,
                              stoppable)
from . import options

__all__ = [
    'add_job_options', 'check_job', 'check_model', 'is_job', 'predict_job',
    'workers'
]

OPTIONS = ('engine', 'batch_size', 'workers', 'part_size')


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of jobs."""
    group = parser.add_argument_group(
        'many images', 'With --out FOLDER, of an exported folder: the results '
        'are Parquet files, and the same command goes on with a job that was '
        'interrupted or killed.')
    group.add_argument(
        '--engine',
        choices=['local', 'ray'],
        help='this process, or Ray Data: this machine, or the cluster that '
        'RAY_ADDRESS names (default: local)')
    group.add_argument(
        '--batch-size',
        type=options.positive,
        help='images that run together (default: 8)')
    group.add_argument(
        '--workers',
        type=options.positive,
        help='batches that are decoded and run at the same time, with one '
        'thread each; under Ray, processes (default: one for each core, '
        'under Ray all but one)')
    group.add_argument(
        '--part-size',
        type=options.positive,
        help='images of a file, which are done again if the job is killed '
        'before it is written (default: 1000)')


def is_job(args: argparse.Namespace) -> bool:
    """Whether the results go into a folder."""
    out = args.out
    return out is not None and not out.endswith(ENDINGS) and (
        os.path.isdir(out) or out.endswith(os.sep)
        or not os.path.splitext(out)[1])


def check_job(args: argparse.Namespace) -> None:
    """Refuse what does not fit a job, before the network is opened."""
    given = [f'--{name.replace("_", "-")}' for name in OPTIONS
             if getattr(args, name) is not None]  # yapf: disable
    if not is_job(args):
        if given:
            raise InputError(f'{given[0]} is an option of jobs, whose results '
                             f'go into a folder: add --out FOLDER')
        return
    if args.draw is not None:
        raise InputError('--draw is not for jobs: leave it out, or write the '
                         'results to one file')
    if os.path.isfile(args.out):
        raise InputError(f'cannot write to the folder {args.out!r}: it is a '
                         f'file')
    options.check_writable_folder(args.out)
    with options.input_errors(ImportError):
        import_pyarrow()
    if args.engine == 'ray':
        with options.input_errors(ImportError):
            from ..serve import ray_jobs  # noqa: F401


def check_model(path: str) -> None:
    """Refuse a network of another form than jobs run."""
    if not os.path.isfile(os.path.join(path, MANIFEST)):
        raise InputError(
            f'jobs run an exported folder, which {path!r} is not: export it, '
            f'or write the results to one file ending with '
            f'{", ".join(ENDINGS)}')


def workers(args: argparse.Namespace) -> Tuple[int, int]:
    """How many streams a runner needs, and threads for each stream."""
    if args.engine == 'ray':
        return 1, args.threads or 1
    streams = args.workers or available_threads()
    return streams, 1 if streams > 1 else args.threads or 1


def predict_job(args: argparse.Namespace, files: Tuple[List[str],
                                                       List[Broken]],
                runner: Runner, names: Sequence[str]) -> None:
    """Begin a job or go on with it, and sum it up.

    Raises:
        InputError: If it is another job's folder, or the job fails.
        SystemExit: With the status 130, if it was stopped.
    """
    paths, folders = [os.path.abspath(path) for path in files[0]], files[1]
    for entry in folders:
        say_skipped(entry)
    if not paths:
        raise InputError(f'there is no image: {folders[0].reason}')
    kinds = (OSError, ValueError, ImportError, RuntimeError)
    with options.input_errors(*kinds), \
            open_job(args.out, paths, runner, names,
                     args.part_size or 1000) as job:
        before = job.num_done()
        if before:
            print(f'going on: {before:,} of {len(paths):,} images are done')
        count = Count(len(paths))
        try:
            with stoppable():
                _run(args, job, runner, before, count)
        except KeyboardInterrupt:
            count.clear()
            print(
                f'error: stopped after {job.num_done():,} of {len(paths):,} '
                f'images; the same command goes on',
                file=sys.stderr)
            sys.exit(INTERRUPTED)
        finally:
            count.clear()
        found = job.finish(folders)
    _sum_up(args, found, runner.num_exits)


def _sum_up(args: argparse.Namespace, found: Summary, num_exits: int) -> None:
    """Say what became of a job."""
    total = sum(found.exits.values())
    if total:
        shares = ' / '.join(f'{found.exits[k] / total:.0%}'
                            for k in range(num_exits))
        print(f'{total:,} images; left at exits 0 to {num_exits - 1}: '
              f'{shares}; mean {found.macs / total / 1e6:.1f} M MACs')
    if found.broken:
        path = os.path.join(args.out, BROKEN)
        print(f'{found.broken:,} could not be read; {printable(path)} names '
              f'them')
    print(f'wrote {printable(args.out)}')


def _run(args: argparse.Namespace, job: Job, runner: Runner, before: int,
         count: Count) -> None:
    """Run an engine; broken images are named as they come."""
    batch_size, on_broken = args.batch_size or 8, args.on_broken
    seen = before

    def show(number: int, broken: Sequence[Broken]) -> None:
        nonlocal seen
        seen += number
        for entry in broken:
            count.clear()
            say_skipped(entry)
        count.show(seen)

    def on_done(done: Classified) -> None:
        show(len(done.results) + len(done.broken), done.broken)

    if args.engine == 'ray':
        from ..serve.ray_jobs import run_by_ray
        run_by_ray(job, runner, batch_size, on_broken, args.workers, show)
    else:
        run_job(job, runner, batch_size, on_broken, on_done)
