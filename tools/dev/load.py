# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Load a service with requests that do not wait for each other's answers.

``load.py send URL IMAGES`` sends images at random moments (Poisson) at a mean
rate. ``load.py capacity FOLDER IMAGES`` finds the highest rate at which 99 of
100 answers take less than five times what one takes alone, for the staged
scheduler and for a plain dynamic batching of whole passes behind the same
HTTP, in turn. ``load.py simulate FOLDER`` does that without a server, from the
measured costs of the segments, also for many replicas. Needs the extra
``serve``.
"""
import argparse
import asyncio
import collections
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy as np

from mmdynperceiver.calibration.share_solver import solve_by_shares
from mmdynperceiver.datasets.image_files import list_images
from mmdynperceiver.deploy import Policy, Runner
from mmdynperceiver.deploy.policy import confidence
from mmdynperceiver.serve.__main__ import check_port
from mmdynperceiver.serve.scheduler import Served, StagedScheduler
from mmdynperceiver.serve.segment_costs import measure_costs
from mmdynperceiver.serve.simulation import capacity as find_capacity
from mmdynperceiver.serve.simulation import simulate

# An answer may take so many times as long as alone.
SLOWER = 5
TYPES = {'Content-Type': 'application/octet-stream'}


async def send(url: str,
               bodies: Sequence[bytes],
               rate: float,
               seconds: float,
               seed: int,
               stop: Optional[threading.Event] = None) -> List[Dict[str, Any]]:
    """Send images at random moments, until it is told to stop; what came of
    each, in the order of the answers."""
    import aiohttp
    rng, found, tasks = random.Random(seed), [], []

    async def ask(session: Any, number: int) -> None:
        start = time.perf_counter()
        entry: Dict[str, Any] = dict(number=number, status=0)
        try:
            async with session.post(
                    url, data=bodies[number], headers=TYPES) as answer:
                # Ray's proxy has answers of its own, which are no JSON.
                entry.update(status=answer.status, text=await answer.text())
                entry.update(answer=json.loads(entry.pop('text')))
        except (aiohttp.ClientError, asyncio.TimeoutError,
                ValueError) as error:
            entry['error'] = str(error)
        entry['ms'] = 1000 * (time.perf_counter() - start)
        found.append(entry)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=60)) as session:
        start = due = time.perf_counter()
        while due < start + seconds and not (stop and stop.is_set()):
            await asyncio.sleep(max(0., due - time.perf_counter()))
            number = rng.randrange(len(bodies))
            tasks.append(asyncio.ensure_future(ask(session, number)))
            due += rng.expovariate(rate)
        await asyncio.gather(*tasks)
    return found


def summarise(
    found: List[Dict[str, Any]], labels: Sequence[str] = ()) -> Dict[str, Any]:
    """Statuses, latencies, shares and the accuracy of answers."""
    good = [entry for entry in found if entry['status'] == 200]
    images = [entry['answer']['images'][0] for entry in good]
    spent = [entry['ms'] for entry in good] or [0.]
    exits = collections.Counter(image['exit'] for image in images)
    points = collections.Counter(
        str(image['operating_point']) for image in images)
    right = [
        image['class'] == labels[entry['number']]
        for entry, image in zip(good, images)
    ] if labels else []
    return dict(
        sent=len(found),
        statuses=dict(
            collections.Counter(str(entry['status']) for entry in found)),
        milliseconds={
            f'p{q}': float(np.percentile(spent, q))
            for q in (50, 90, 99)
        },
        mean_ms=float(np.mean(spent)),
        shares=[
            exits[k] / max(1, len(images))
            for k in range(max(exits, default=0) + 1)
        ],
        points=dict(points),
        accuracy=float(np.mean(right)) if right else None)


class PlainBatches(StagedScheduler):
    """Dynamic batching without stages: images that wait run together through
    the whole network, and all of them are answered at its end."""

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._queues[0]:
                    if self._closed:
                        return
                    self._ready.wait()
                taken = self._queues[0].take(self.most)
            rows = taken.entries
            outcome = self.segments.predict(  # type: ignore[attr-defined]
                taken.tensors['images'], rows[0].policy)
            with self._ready:
                self._queues[0].free(taken)
                self._count -= len(rows)
            now = time.perf_counter()
            for k, row in enumerate(rows):
                self._answer(
                    row,
                    Served(outcome.logits[k], int(outcome.exit_index[k]),
                           float(outcome.confidence[k]),
                           1000 * (now - row.arrived), row.policy))

    most = 16


def run_server(args: argparse.Namespace) -> None:
    """Serve in this process, by one of the two schedulers."""
    import uvicorn

    from mmdynperceiver.serve import settings
    from mmdynperceiver.serve.http_app import build_app
    from mmdynperceiver.serve.metrics import Metrics
    if args.scheduler == 'plain':
        PlainBatches.most = args.max_batch
        settings.StagedScheduler = PlainBatches  # type: ignore[misc]
    service = settings.start_service(
        settings.Settings(
            args.folder,
            args.runtime,
            threads=1,
            thresholds=args.thresholds,
            max_batch=args.max_batch,
            max_waiting=1000), Metrics())
    print('serving', flush=True)
    uvicorn.run(
        build_app(service),
        port=args.port,
        log_level='error',
        access_log=False)


@contextmanager
def server(args: argparse.Namespace, scheduler: str, port: int,
           thresholds: Sequence[float]) -> Iterator[str]:
    """Start such a process; gives where it answers."""
    check_port('127.0.0.1', port)
    process = subprocess.Popen([
        sys.executable, __file__, 'server', args.folder, '--scheduler',
        scheduler, '--port',
        str(port), '--runtime', args.runtime, '--max-batch',
        str(args.max_batch), '--thresholds', *map(str, thresholds)
    ],
                               stdout=subprocess.PIPE,
                               text=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith('serving'):
            raise RuntimeError('the server did not start')
        time.sleep(1)
        yield f'http://127.0.0.1:{port}/v1/classify?top=1'
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def alone_ms(url: str, bodies: Sequence[bytes], count: int = 60) -> float:
    """Mean milliseconds of requests that come one after the other."""
    import http.client
    connection = http.client.HTTPConnection(url.split('/')[2], timeout=30)
    spent = []
    for body in bodies[:count]:
        start = time.perf_counter()
        connection.request('POST', '/v1/classify?top=1', body, TYPES)
        connection.getresponse().read()
        spent.append(1000 * (time.perf_counter() - start))
    return float(np.mean(spent[10:]))


def capacity(args: argparse.Namespace) -> Dict[str, Any]:
    """Bisect the rate that each server holds, in turn."""
    files = list_images(args.images)
    random.Random(0).shuffle(files)
    bodies = [read(path) for path in files[:1000]]
    thresholds = share_thresholds(args, files[:1000])
    result: Dict[str, Any] = dict(thresholds=thresholds, rounds=[])
    names = ('staged', 'plain')
    with server(args, names[0], 8471, thresholds) as one, \
            server(args, names[1], 8472, thresholds) as other:
        urls = dict(zip(names, (one, other)))
        for number in range(args.rounds):
            alone = {n: alone_ms(urls[n], bodies) for n in names}
            limit = SLOWER * float(np.mean(list(alone.values())))
            low, high = dict.fromkeys(names,
                                      0.), dict.fromkeys(names, args.most)
            for _ in range(args.steps):
                for name in names[::1 - 2 * (number % 2)]:
                    rate = (low[name] + high[name]) / 2
                    found = summarise(
                        asyncio.run(
                            send(urls[name], bodies, rate, args.seconds,
                                 number)))
                    holds = found['milliseconds']['p99'] < limit and set(
                        found['statuses']) == {'200'}
                    (low if holds else high)[name] = rate
                    print(f'{name} {rate:.0f}/s: {found}', file=sys.stderr)
            result['rounds'].append(
                dict(alone_ms=alone, limit_ms=limit, capacity=low))
    ratios = [r['capacity']['staged'] / max(r['capacity']['plain'], 1e-9)
              for r in result['rounds']]  # yapf: disable
    return dict(result, ratios=ratios, ratio=float(np.median(ratios)))


def simulated(args: argparse.Namespace) -> Dict[str, Any]:
    """The same from measured costs: one replica, and many."""
    runner = Runner.load(args.folder, args.runtime, 1)
    costs = measure_costs(runner, args.max_batch, 20)
    alone = simulate(costs, args.shares, 1e-3, images=500)
    limit = SLOWER * float(alone.milliseconds.mean())

    def hold(staged: bool, replicas: int = 1) -> float:
        return find_capacity(
            lambda rate: simulate(
                costs,
                args.shares,
                rate,
                replicas,
                5000 + 500 * replicas,
                args.max_batch,
                staged=staged).p99, limit, 0, replicas * 8000 / costs.alone)

    def backlog(staged: bool) -> float:
        found = simulate(
            costs, args.shares, 1e9, 1, 5000, args.max_batch, staged=staged)
        return 5e6 / float(found.milliseconds.max())

    return dict(
        costs=costs._asdict(),
        limit_ms=limit,
        capacity=dict(staged=hold(True), plain=hold(False)),
        backlog=dict(staged=backlog(True), plain=backlog(False)),
        replicas={n: hold(True, n)
                  for n in args.replicas})


def share_thresholds(args: argparse.Namespace,
                     files: Sequence[str]) -> List[float]:
    """Thresholds at which images leave in the shares asked for."""
    import torch
    runner = Runner.load(args.folder, args.runtime, 1)
    batch = runner.preprocessing.batch(files)
    logits = [
        np.concatenate(parts)
        for parts in zip(*(runner.all_exits(batch[k:k + 50])
                           for k in range(0, len(batch), 50)))
    ]
    sure = torch.stack([torch.from_numpy(confidence(x)) for x in logits])
    found = list(solve_by_shares(sure, args.shares))
    left = runner.predict(batch[:200], Policy(len(logits), found)).exit_index
    print(f'shares {np.bincount(left) / len(left)}', file=sys.stderr)
    return found


def read(path: str) -> bytes:
    """The bytes of a file."""
    with open(path, 'rb') as file:
        return file.read()


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    one = commands.add_parser('send')
    one.add_argument('url')
    one.add_argument('images', help='folder, with a folder for each class')
    one.add_argument('--rate', type=float, default=50.)
    one.add_argument('--seed', type=int, default=0)
    one.add_argument('--seconds', type=float, default=10.)
    for name in ('capacity', 'simulate', 'server'):
        other = commands.add_parser(name)
        other.add_argument('folder')
        other.add_argument('--runtime', default='onnxruntime')
        other.add_argument('--max-batch', type=int, default=16)
        if name == 'server':
            other.add_argument('--scheduler', choices=['staged', 'plain'])
            other.add_argument('--port', type=int)
            other.add_argument('--thresholds', type=float, nargs='+')
            continue
        other.add_argument(
            '--shares', type=float, nargs='+', default=[.5, .25, .1, .15])
        if name == 'simulate':
            other.add_argument(
                '--replicas', type=int, nargs='+', default=[1, 10, 100, 1000])
        else:
            other.add_argument('images')
            other.add_argument('--seconds', type=float, default=4.)
            other.add_argument('--rounds', type=int, default=3)
            other.add_argument('--steps', type=int, default=6)
            other.add_argument('--most', type=float, default=1000.)
    return parser.parse_args()


def main() -> None:
    """Run a command; its result is printed as JSON."""
    args = parse_args()
    if args.command == 'server':
        run_server(args)
        return
    if args.command != 'send':
        run = capacity if args.command == 'capacity' else simulated
        print(json.dumps(run(args), indent=2))
        return
    files = list_images(args.images)
    labels = [os.path.basename(os.path.dirname(path)) for path in files]
    found = asyncio.run(
        send(args.url, list(map(read, files)), args.rate, args.seconds,
             args.seed))
    print(json.dumps(summarise(found, labels), indent=2))


if __name__ == '__main__':
    main()
