# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Jobs over many images on Ray Data, on this machine or a cluster.

A row of the data set is a part of the job with its paths, and an actor with
the whole network does it and writes its file. An actor that dies is started
again by Ray and does its part once more, in place of what was not written.
"""
import logging
from typing import Any, Callable, Dict, Optional, Sequence

from ..datasets.image_files import Broken
from ..deploy.jobs import Job, Parts, classify_part
from ..deploy.runner import Runner
from ..io.describe import one_line
from .local_ray import import_ray, start_ray

__all__ = ['run_by_ray']

import_ray('data', join=True)


class PartWorker:
    """An actor: the whole network, which does one part after the other.

    Args:
        runner (Runner): The network; in the actor it opens its folder again.
        parts (Parts): Where the results go.
        batch_size, on_broken: As of
            :func:`~mmdynperceiver.deploy.jobs.classify_part`.
    """

    def __init__(self, runner: Runner, parts: Parts, batch_size: int,
                 on_broken: str) -> None:
        self.runner, self.parts = runner, parts
        self.batch_size, self.on_broken = batch_size, on_broken

    def __call__(self, batch: Dict[str, Any]) -> Dict[str, Any]:
        """Do parts, unless they were done before an actor died."""
        for number, first, paths in zip(
                *map(batch.get, ('part', 'first', 'paths'))):
            if not self.parts.done(number):
                classify_part(self.parts,
                              int(number), [str(path) for path in paths],
                              int(first), self.runner, self.batch_size,
                              self.on_broken)
        return dict(part=batch['part'])


def run_by_ray(job: Job,
               runner: Runner,
               batch_size: int = 1,
               on_broken: str = 'skip',
               workers: Optional[int] = None,
               on_done: Callable[[int, Sequence[Broken]], Any] = max) -> None:
    """Do what is to be done of a job by actors of Ray Data.

    The job's folder, the network's and the images must be where they are on
    every host.

    Args:
        job (Job): The job.
        runner (Runner): The network.
        batch_size (int): How many images run together. Defaults to 1.
        on_broken (str): As of
            :func:`~mmdynperceiver.deploy.stream.classify_files`.
        workers (int, optional): How many actors. Defaults to None, as many as
            find their cores while one is left: actors that take all keep the
            rest of Ray Data waiting.
        on_done (Callable): Called with the number of images of each part, and
            those that are broken.

    Raises:
        RuntimeError: If Ray fails, with the reason.
        ValueError: If there are more actors than find a core.
    """
    todo = job.todo()
    if not todo:
        return
    threads = runner.sessions.threads or 1
    with start_ray(workers and workers * threads + 1, join=True) as ray:
        cores = int(ray.cluster_resources().get('CPU', 1))
        most = max(1, (cores - 1) // threads)
        if workers and workers > most:
            raise ValueError(f'{workers} workers with {threads} threads each '
                             f'find no cores: Ray has {cores}, one of which '
                             f'is for the rest; {most} are the most')
        rows = [
            dict(
                part=number,
                first=job.places(number)[0],
                paths=[job.paths[k] for k in job.places(number)])
            for number in todo
        ]
        _be_quiet(ray)
        done = ray.data.from_items(
            rows, override_num_blocks=len(rows)).map_batches(
                PartWorker,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(
                    size=min(workers or most, len(rows))),
                num_cpus=threads,
                fn_constructor_args=(runner, job.parts, batch_size, on_broken))
        try:
            for row in done.iter_rows():
                number = int(row['part'])
                on_done(len(job.places(number)), job.parts.broken(number))
        except ray.exceptions.RayError as error:
            raise RuntimeError(_reason(error)) from error


def _be_quiet(ray: Any) -> None:
    """Let Ray Data print warnings only; progress is shown by the job."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger('ray.data').setLevel(logging.WARNING)


def _reason(error: BaseException) -> str:
    """What an actor says of its failure, without Ray's traceback."""
    cause = getattr(error, 'cause', None) or error.__cause__
    if isinstance(cause, Exception):
        return _reason(cause)
    lines = [line for line in str(error).splitlines() if 'Error: ' in line]
    return lines[-1].strip() if lines else one_line(error)
