# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Segments as Ray deployments of their own, on hosts with what each needs."""
import dataclasses
from collections.abc import Sequence as AbstractSequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from ..deploy.manifest import Manifest
from ..deploy.sessions import RUNTIMES, check_runtime
from ..deploy.threads import check_threads

__all__ = [
    'RemoteSessions', 'SegmentDeployment', 'SegmentReplica',
    'segment_deployments'
]


@dataclass(frozen=True)
class SegmentDeployment:
    """Where one segment runs.

    Args:
        replicas (int): Processes that run it. Defaults to 1.
        runtime, precision, threads: As of
            :class:`~mmdynperceiver.serve.settings.Settings`, whose values
            are the defaults.
        ray_actor_options (Mapping, optional): What Ray reserves for a
            replica, such as ``{'num_cpus': 2, 'resources': {'big': 1}}``.
            Defaults to None, as many cores as threads.
    """

    replicas: int = 1
    runtime: Optional[str] = None
    precision: Optional[str] = None
    threads: Optional[int] = None
    ray_actor_options: Optional[Mapping[str, Any]] = None

    def __post_init__(self) -> None:
        if not isinstance(self.replicas, int) or self.replicas < 1:
            raise ValueError(f'replicas of a segment must be a number of at '
                             f'least 1, got {self.replicas!r}')


def segment_deployments(given: Any) -> Sequence[SegmentDeployment]:
    """Those of a list from a YAML file.

    Raises:
        ValueError: If it is no list of mappings with the names of
            :class:`SegmentDeployment`.
    """
    known = [field.name for field in dataclasses.fields(SegmentDeployment)]
    if not isinstance(given, (list, tuple)):
        raise ValueError(f'segments must be a list, one entry for each '
                         f'segment, got {given!r}')
    for entry in given:
        if not isinstance(entry, Mapping) or set(entry) - set(known):
            raise ValueError(f'an entry of segments takes {", ".join(known)}, '
                             f'got {entry!r}')
    return tuple(SegmentDeployment(**entry) for entry in given)


class SegmentReplica:
    """One segment of an exported folder, open in a process.

    Args:
        folder (str): The folder.
        index (int): Number of the segment.
        runtime, precision, threads: As of
            :meth:`mmdynperceiver.deploy.Runner.load`.
    """

    def __init__(self, folder: str, index: int, runtime: str, precision: str,
                 threads: Optional[int]) -> None:
        check_runtime(runtime, precision)
        graph = Manifest.read(folder).read_graph(folder, index)
        self._session, = RUNTIMES[runtime].open([graph],
                                                check_threads(threads),
                                                precision)

    def run(self, feeds: Dict[str, np.ndarray]) -> List[np.ndarray]:
        """Run a batch; a copy of what comes out."""
        with ExitStack() as held:
            return [np.array(out) for out in self._session.run(feeds, held)]


class _RemoteSession:
    """A segment behind a handle of its deployment."""

    def __init__(self, handle: Any, seconds: float) -> None:
        self._handle = handle
        self._seconds = seconds

    def run(self,
            feeds: Mapping[str, np.ndarray],
            held: Any = None) -> List[np.ndarray]:
        """Run a batch there, and wait for it."""
        return self._handle.run.remote(
            dict(feeds)).result(timeout_s=self._seconds)


class RemoteSessions(AbstractSequence):
    """What a :class:`~mmdynperceiver.deploy.Runner` takes for its segments.

    Args:
        handles (Sequence): A ``DeploymentHandle`` for each segment.
        seconds (float): For a batch to come back.
    """

    # There is no place that could run all as one.
    whole = None

    def __init__(self, handles: Sequence[Any], seconds: float) -> None:
        self._sessions = [_RemoteSession(one, seconds) for one in handles]

    def __len__(self) -> int:
        """Number of segments."""
        return len(self._sessions)

    def __getitem__(self, index: Any) -> Any:
        """One segment, or several."""
        return self._sessions[index]
