# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a service endures: killed replicas, and a long time.

``endure.py kill EXPORTED IMAGES`` starts it by Ray Serve, sends images at
random moments, kills one replica (kill -9) after the other and compares each
answer with the runner's. ``endure.py soak EXPORTED IMAGES`` sends images to a
service without Ray and watches its memory. Needs the extra ``serve`` and
psutil.
"""
import argparse
import asyncio
import collections
import json
import math
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import psutil
from load import read, send, summarise

from mmdynperceiver.datasets.image_files import list_images
from mmdynperceiver.deploy import Runner


@contextmanager
def service(args: argparse.Namespace, *options:
            str) -> Iterator[Tuple[str, psutil.Process]]:
    """Start it; gives where it answers, and its process."""
    command = [
        sys.executable, '-m', 'mmdynperceiver.serve', args.exported, '--port',
        str(args.port), '--threads', '1', *options
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ran:
        try:
            assert ran.stdout is not None
            if 'serving' not in ran.stdout.readline():
                raise RuntimeError('the service did not start')
            yield (f'http://127.0.0.1:{args.port}/v1/classify',
                   psutil.Process(ran.pid))
        finally:
            ran.terminate()


def replicas(process: psutil.Process) -> List[psutil.Process]:
    """The processes with a network each."""
    found = []
    for each in process.children(recursive=True):
        try:
            if 'Classifier' in ' '.join(each.cmdline()):
                found.append(each)
        except psutil.Error:  # gone meanwhile
            pass
    return found


def kill(args: argparse.Namespace) -> Dict[str, Any]:
    """Kill replicas under load; what became of all requests."""
    files = list_images(args.images)[:args.files]
    said = Runner.load(args.exported, threads=1)(files)
    stop, killed = threading.Event(), []

    def killer(process: psutil.Process) -> None:
        """As soon as all replicas are there again, one goes."""
        rng = random.Random(args.seed)
        end = time.monotonic() + args.seconds
        while len(killed) < args.kills and time.monotonic() < end:
            there = replicas(process)
            if len(there) == args.replicas:
                time.sleep(rng.random() * args.pause)
                rng.choice(there).kill()
                killed.append(time.monotonic())
                print(f'{len(killed)} kills', file=sys.stderr)
            time.sleep(.1)
        time.sleep(args.pause)
        stop.set()

    with service(args, '--replicas', str(args.replicas)) as (url, process):
        thread = threading.Thread(target=killer, args=(process, ))
        thread.start()
        found = asyncio.run(
            send(url, list(map(read, files)), args.rate, math.inf, args.seed,
                 stop))
        thread.join()
    wrong = 0
    for entry in found:
        if entry['status'] == 200:
            want = said[entry['number']]
            image = entry.get('answer', dict(images=[{}]))['images'][0]
            wrong += (image.get('label'),
                      image.get('exit')) != (want.label, want.exit_index)
    statuses = collections.Counter(entry['status'] for entry in found)
    return dict(
        kills=len(killed),
        sent=len(found),
        statuses={
            str(key): count
            for key, count in statuses.items()
        },
        wrong=wrong,
        # Neither an answer nor a status.
        lost=statuses[0],
        errors=dict(
            collections.Counter(entry['error'] for entry in found
                                if 'error' in entry)))


def soak(args: argparse.Namespace) -> Dict[str, Any]:
    """Memory of a service while it is asked, in MiB."""
    files = list_images(args.images)[:args.files]
    stop, sizes = threading.Event(), []

    def watcher(process: psutil.Process) -> None:
        while not stop.wait(1):
            sizes.append(process.memory_info().rss / 2**20)

    with service(args, '--engine', 'local') as (url, process):
        thread = threading.Thread(target=watcher, args=(process, ))
        thread.start()
        found = asyncio.run(
            send(url, list(map(read, files)), args.rate, args.seconds,
                 args.seed))
        stop.set()
        thread.join()
    quarters = [float(np.median(part)) for part in np.array_split(sizes, 4)]
    return dict(
        seconds=args.seconds,
        mib_by_quarter=quarters,
        growth=quarters[3] / quarters[1] - 1,
        **summarise(found))


def main() -> None:
    """Run a command; its result is printed as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    for run, seconds in ((kill, 1800.), (soak, 600.)):
        one = commands.add_parser(run.__name__)
        one.set_defaults(run=run)
        one.add_argument('exported')
        one.add_argument('images')
        one.add_argument('--rate', type=float, default=20.)
        one.add_argument('--files', type=int, default=200)
        one.add_argument('--port', type=int, default=8471)
        one.add_argument('--seed', type=int, default=0)
        one.add_argument(
            '--seconds', type=float, default=seconds, help='at most')
        if run is kill:
            one.add_argument('--kills', type=int, default=20)
            one.add_argument('--replicas', type=int, default=2)
            one.add_argument(
                '--pause',
                type=float,
                default=3.,
                help='longest time that all replicas are left alone')
    args = parser.parse_args()
    print(json.dumps(args.run(args), indent=2))


if __name__ == '__main__':
    main()
