# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Jobs over many image files that go on where they stopped.

The results are in parts, each a Parquet file with a row for each of so many
images, in their order. A part is written whole or not at all, and is the only
trace of its images: so each image is in one row of one part, however often a
job is killed. Needs pyarrow.
"""
import csv
import hashlib
import json
import os
from collections import Counter
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence

from ..datasets.image_files import Broken
from ..io.atomic import (alone_in, atomic_file, check_new_folder,
                         remove_leftovers, write_json)
from ..io.checksums import content_sha256, file_sha256
from ..io.result_file import import_pyarrow, write_parquet
from .manifest import MANIFEST
from .runner import Runner
from .stream import Classified, classify_files

__all__ = ['Job', 'Parts', 'Summary', 'classify_part', 'open_job', 'run_job']

# What a part says of an image. A broken one has its place, its path and what
# is wrong with it; the others have no error.
COLUMNS = dict(
    index='int64',
    path='string',
    label='int32',
    name='string',
    score='float',
    exit_index='int32',
    confidence='float',
    macs='int64',
    milliseconds='float',
    preparing_milliseconds='float',
    error='string')
DESCRIPTION, BROKEN, PARTS = 'job.json', 'broken.csv', 'parts'
# What is told when a job of another description is in the folder.
ADVICE = 'give what it was begun with, or another --out'


class Summary(NamedTuple):
    """What became of a job.

    Args:
        exits (Counter): How many images left at each exit.
        macs (int): Of all of them.
        broken (int): How many have no result.
    """

    exits: 'Counter[int]'
    macs: int
    broken: int


class Parts:
    """The files of a job's results.

    Args:
        folder (str): Where ``job.json`` is, ``broken.csv`` and, in
            ``parts``, the rest.
        names (Sequence[str]): Names of the classes.
    """

    def __init__(self, folder: str, names: Sequence[str]) -> None:
        self.folder, self.names = folder, list(names)

    def path(self, number: int) -> str:
        """The file of a part."""
        return os.path.join(self.folder, PARTS, f'{number:06d}.parquet')

    def done(self, number: int) -> bool:
        """Whether a part is there."""
        return os.path.exists(self.path(number))

    def rows(self, done: Classified, paths: Sequence[str],
             places: Sequence[int]) -> List[Dict[str, Any]]:
        """A row for each of these images, which have these places in the
        job, of what they got."""
        results, broken = iter(done.results), iter(done.broken)
        result, fault = next(results, None), next(broken, None)
        rows: List[Dict[str, Any]] = []
        for path, place in zip(paths, places):
            row: Dict[str, Any] = dict(index=place, path=path)
            if result is not None and result.path == path:
                row.update(result._asdict(), name=self.names[result.label])
                del row['scores']
                result = next(results, None)
            else:
                assert fault is not None and fault.path == path
                row['error'] = fault.reason
                fault = next(broken, None)
            rows.append(row)
        return rows

    def write(self, number: int, rows: Sequence[Dict[str, Any]]) -> None:
        """Write a part, whole or not at all."""
        write_parquet(self.path(number), list(COLUMNS), rows, COLUMNS)

    def broken(self, number: int) -> List[Broken]:
        """The broken images of a part."""
        _, parquet = import_pyarrow()
        table = parquet.read_table(
            self.path(number), columns=['path', 'error'])
        return [
            Broken(row['path'], row['error']) for row in table.to_pylist()
            if row['error'] is not None
        ]


class Job:
    """Images, and the parts in which their results are.

    Args:
        parts (Parts): The files.
        paths (Sequence[str]): The images; a path may come more than once.
        part_size (int): How many of them are in a part.
    """

    def __init__(self, parts: Parts, paths: Sequence[str],
                 part_size: int) -> None:
        self.parts, self.paths, self.part_size = parts, paths, part_size

    def places(self, number: int) -> range:
        """The places of the images of a part."""
        first = number * self.part_size
        return range(first, min(first + self.part_size, len(self.paths)))

    @property
    def num_parts(self) -> int:
        """How many parts there are in the end."""
        return -(-len(self.paths) // self.part_size)

    def todo(self) -> List[int]:
        """The parts that are not there."""
        return [k for k in range(self.num_parts) if not self.parts.done(k)]

    def num_done(self) -> int:
        """How many images are in the parts that are there."""
        return len(self.paths) - sum(
            len(self.places(number)) for number in self.todo())

    def finish(self, folders: Sequence[Broken] = ()) -> Summary:
        """Check that each image has one row, and name the broken ones in a
        file of their own.

        Args:
            folders (Sequence[Broken]): What gave no images.

        Raises:
            ValueError: If a part cannot be read or holds something else.
        """
        exits: 'Counter[int]' = Counter()
        macs, broken, path = 0, 0, os.path.join(self.parts.folder, BROKEN)
        with atomic_file(path) as temporary, open(
                temporary,
                'w',
                newline='',
                encoding='utf-8',
                errors='surrogateescape') as file:
            table = csv.writer(file)
            table.writerow(['path', 'error'])
            table.writerows(folders)
            for number in range(self.num_parts):
                columns = self._read(number)
                faults = [(p, e)
                          for p, e in zip(columns['path'], columns['error'])
                          if e]
                table.writerows(faults)
                broken += len(faults)
                exits.update(k for k in columns['exit_index'] if k is not None)
                macs += sum(m for m in columns['macs'] if m is not None)
        if not broken and not folders:
            os.unlink(path)
        return Summary(exits, macs, broken)

    def _read(self, number: int) -> Dict[str, List[Any]]:
        """The columns of a part that are summed up."""
        pyarrow, parquet = import_pyarrow()
        path = self.parts.path(number)
        advice = 'remove it and run the same command again'
        try:
            columns = parquet.read_table(
                path, columns=['index', 'path', 'exit_index', 'macs',
                               'error']).to_pydict()
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise ValueError(f'cannot read {path!r} ({error}): {advice}') \
                from error
        if columns['index'] != list(self.places(number)):
            raise ValueError(f'{path!r} holds other images: {advice}')
        return columns


@contextmanager
def open_job(folder: str, paths: Sequence[str], runner: Runner,
             names: Sequence[str], part_size: int) -> Iterator[Job]:
    """Begin a job, or go on with one; meanwhile nobody else does.

    Args:
        folder (str): For its results: new, empty, or that of this job.
        paths (Sequence[str]): The images.
        runner (Runner): The network, with its policy.
        names (Sequence[str]): Names of the classes.
        part_size (int): Images of a part.

    Raises:
        ImportError: If pyarrow is missing.
        FileExistsError: If something else is in the folder.
        ValueError: If it holds the results of another job, or another process
            is at work there.
    """
    import_pyarrow()
    os.makedirs(folder, exist_ok=True)
    parts = os.path.join(folder, PARTS)
    with alone_in(folder):
        for left in (folder, parts):
            remove_leftovers(left)
        path = os.path.join(folder, DESCRIPTION)
        given = _describe(paths, runner, names, part_size)
        if not os.path.exists(path):
            check_new_folder(folder)
            write_json(path, given)
        _compare(path, given)
        os.makedirs(parts, exist_ok=True)
        yield Job(Parts(folder, names), paths, part_size)


def run_job(job: Job,
            runner: Runner,
            batch_size: int = 1,
            on_broken: str = 'skip',
            on_done: Callable[[Classified], Any] = bool) -> None:
    """Do what is to be done of a job, in the streams of the runner.

    Args:
        job (Job): Its parts are written as they get full.
        runner (Runner): The network.
        batch_size (int): How many images run together. Defaults to 1.
        on_broken (str): As of
            :func:`~mmdynperceiver.deploy.stream.classify_files`.
        on_done (Callable): Called with each batch. Defaults to nothing.
    """
    todo = job.todo()
    places = [place for number in todo for place in job.places(number)]
    paths = [job.paths[place] for place in places]
    rows: List[Dict[str, Any]] = []
    rest, seen = iter(todo), 0
    number = next(rest, -1)
    for done in classify_files(runner, paths, batch_size, on_broken):
        end = seen + len(done.results) + len(done.broken)
        rows += job.parts.rows(done, paths[seen:end], places[seen:end])
        seen = end
        while rows and len(rows) >= len(job.places(number)):
            size = len(job.places(number))
            job.parts.write(number, rows[:size])
            rows, number = rows[size:], next(rest, -1)
        on_done(done)


def classify_part(parts: Parts,
                  number: int,
                  paths: Sequence[str],
                  first: int,
                  runner: Runner,
                  batch_size: int = 1,
                  on_broken: str = 'skip') -> None:
    """Do one part, of which the first image has the place ``first``."""
    places = range(first, first + len(paths))
    rows: List[Dict[str, Any]] = []
    for done in classify_files(runner, paths, batch_size, on_broken):
        rest = slice(
            len(rows),
            len(rows) + len(done.results) + len(done.broken))
        rows += parts.rows(done, paths[rest], places[rest])
    parts.write(number, rows)


def _describe(paths: Sequence[str], runner: Any, names: Sequence[str],
              part_size: int) -> Dict[str, Any]:
    """What a job is: all that its results depend on."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path) + b'\0')
    policy, sessions = runner.policy, runner.sessions
    content = dict(
        format=1,
        images=len(paths),
        images_sha256=digest.hexdigest(),
        network_sha256=file_sha256(os.path.join(sessions.folder, MANIFEST)),
        policy=dict(thresholds=policy.thresholds, **policy.settings),
        names_sha256=content_sha256(dict(names=list(names))),
        runtime=sessions.runtime,
        precision=sessions.precision,
        part_size=part_size)
    return json.loads(json.dumps(content, default=float))


def _compare(path: str, given: Dict[str, Any]) -> None:
    """Refuse to go on with another job."""
    try:
        with open(path, encoding='utf-8') as file:
            known = json.load(file)
        wrong = [key for key in given if known[key] != given[key]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path!r} does not describe a job ({error}): '
                         f'remove its folder, or give another --out') \
            from error
    if wrong:
        key = wrong[0]
        raise ValueError(
            f'the folder {os.path.dirname(path)!r} holds results of another '
            f'job: its {key} is {known[key]}, this one has {given[key]}; '
            f'{ADVICE}')
