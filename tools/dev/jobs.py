# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Kill a job over many images again and again, and time one.

``jobs.py kill EXPORTED IMAGES`` repeats the images until there are so many,
kills ``mmdynperceiver predict`` (kill -9) at random moments, and checks at the
end that each image has exactly one row, with the class and the exit that the
runner says. ``jobs.py speed EXPORTED IMAGES`` times the
local engine against the bare runner, in turn.
"""
import argparse
import json
import os
import random
import sys
import tempfile
import time
from typing import Any, Dict, List, Optional

import numpy as np
from kill import run_child

import mmdynperceiver.cli.predict  # noqa: F401, once for all children
from mmdynperceiver.datasets.image_files import list_images
from mmdynperceiver.deploy import Runner
from mmdynperceiver.deploy.jobs import PARTS, open_job, run_job
from mmdynperceiver.io.result_file import import_pyarrow
from kill_jobs import run_tool


def count_parts(folder: str) -> int:
    """How many parts are there."""
    path = os.path.join(folder, PARTS)
    return len([name for name in os.listdir(path)
                if name[0] != '.']) if os.path.isdir(path) else 0


def repeat(args: argparse.Namespace) -> List[str]:
    """So many paths of images."""
    files = [os.path.abspath(path) for path in list_images(args.images)]
    return [files[k % len(files)] for k in range(args.count)]


def kill(args: argparse.Namespace, work: str) -> Dict[str, Any]:
    """Kill a job so often, finish it, and check what is there."""
    paths, out = repeat(args), os.path.join(work, 'job')
    names = os.path.join(work, 'list')
    with open(names, 'w', encoding='utf-8') as file:
        file.write('\n'.join(paths))
    command = (args.exported, f'@{names}', '--out', out, '--part-size',
               str(args.part_size), '--engine', args.engine, '--quiet')

    def run(kill_after: Optional[float] = None) -> Optional[int]:
        """Run it in a child; its status, None if it was killed."""
        log = os.path.join(work, 'log')
        return run_child(lambda: run_tool('predict', *command), log,
                         kill_after)

    rng, kills = random.Random(args.seed), 0
    while kills < args.kills and run(rng.random() * args.longest) is None:
        kills += 1
        print(f'{kills} kills, {count_parts(out)} parts', file=sys.stderr)
    parts = count_parts(out)
    return dict(
        engine=args.engine,
        images=len(paths),
        kills=kills,
        images_before_the_last_start=parts * args.part_size,
        status=run(24 * 3600.),
        **check(args, paths, out))


def check(args: argparse.Namespace, paths: List[str],
          out: str) -> Dict[str, Any]:
    """Count rows that are lost, there twice, or wrong."""
    _, parquet = import_pyarrow()
    rows = parquet.read_table(os.path.join(out, PARTS)).to_pylist()
    unique = sorted(set(paths))
    said = dict(zip(unique, Runner.load(args.exported)(unique, 8)))
    seen = np.bincount([row['index'] for row in rows], minlength=len(paths))
    wrong = [
        row for row in rows if row['path'] != paths[row['index']]
        or row['label'] != said[row['path']].label
        or row['exit_index'] != said[row['path']].exit_index
    ]
    return dict(
        lost=int((seen == 0).sum()),
        twice=int((seen > 1).sum()),
        wrong=len(wrong))


def speed(args: argparse.Namespace, work: str) -> Dict[str, Any]:
    """Images a second of the local engine and of the runner, in turn; also
    by the time of the processor, which other programs take nothing of."""
    paths = repeat(args)
    runner = Runner.load(args.exported, streams=args.streams)
    runner(paths[:64], args.batch_size)
    names, found = runner.manifest.classes, []
    for number in range(args.rounds):

        def bare() -> None:
            runner(paths, args.batch_size)

        def job() -> None:
            folder = os.path.join(work, str(number))
            with open_job(folder, paths, runner, names,
                          args.part_size) as opened:
                run_job(opened, runner, args.batch_size)
                opened.finish()

        spent = {}
        for work_of in ((bare, job), (job, bare))[number % 2]:
            start, cpu = time.perf_counter(), time.process_time()
            work_of()
            spent[work_of.__name__] = (time.perf_counter() - start,
                                       time.process_time() - cpu)
        found.append(spent)
        print(spent, file=sys.stderr)
    ratios = np.array(
        [np.array(each['bare']) / np.array(each['job']) for each in found])
    return dict(
        seconds=found,
        ratio=float(np.median(ratios[:, 0])),
        cpu_ratio=float(np.median(ratios[:, 1])))


def main() -> None:
    """Run a command; its result is printed as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    for name, work in (('kill', kill), ('speed', speed)):
        one = commands.add_parser(name)
        one.set_defaults(work=work)
        one.add_argument('exported')
        one.add_argument('images')
        one.add_argument('--count', type=int, default=100_000)
        one.add_argument('--part-size', type=int, default=1000)
        if name == 'kill':
            one.add_argument('--kills', type=int, default=20)
            one.add_argument('--engine', default='local')
            one.add_argument('--seed', type=int, default=0)
            one.add_argument(
                '--longest',
                type=float,
                default=10.,
                help='longest time until a kill, in seconds')
        else:
            one.add_argument('--streams', type=int, default=1)
            one.add_argument('--batch-size', type=int, default=8)
            one.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(args.work(args, work), indent=2))


if __name__ == '__main__':
    main()
