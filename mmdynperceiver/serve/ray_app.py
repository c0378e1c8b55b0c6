# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The service in Ray Serve: the whole cascade is one replica.

``mmdynperceiver.serve.ray_app:build`` is what a YAML for ``serve deploy``
names; see ``docs/serving.md``.
"""
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Mapping, Tuple

import ray.serve._private.replica as ray_replica
from fastapi import FastAPI
from ray import serve
from ray.util import get_node_ip_address

from .http_app import build_app
from .local_ray import LOOPBACK
from .metrics import RayMetrics
from .ray_segments import RemoteSessions, SegmentReplica
from .service import Service
from .settings import Settings, start_service

__all__ = ['build', 'make_application']

# Of this process; Ray asks for the application after it made the replica.
_RUNNING: List[Tuple[Service, Settings]] = []


def _build_asgi() -> FastAPI:
    """The application of the replica in this process."""
    service, settings = _RUNNING[-1]
    return build_app(service, settings.token)


def _listen_to_loopback() -> None:
    """On a node that is this machine alone: Ray's replicas open a port for
    each other at all addresses, whatever that of the node is."""
    inner = getattr(ray_replica, 'add_port_to_grpc_server', None)
    if inner is not None and get_node_ip_address() == LOOPBACK:
        ray_replica.add_port_to_grpc_server = lambda server, address: inner(
            server, address.replace('[::]', LOOPBACK))


class Classifier:
    """One process with a network; Ray restarts it when it fails.

    Args:
        settings (Settings): What the service is told.
        *segments (DeploymentHandle): Those that run a segment each; without
            them all run here.
    """

    def __init__(self, settings: Settings, *segments: Any) -> None:
        _listen_to_loopback()
        sessions = RemoteSessions(
            segments, settings.limits.request_seconds) if segments else None
        # Ray waits for no answer in the thread in which this is made.
        with ThreadPoolExecutor(1) as starter:
            self._service = starter.submit(start_service, settings,
                                           RayMetrics(), sessions).result()
        _RUNNING.append((self._service, settings))

    def check_health(self) -> None:
        """Called by Ray every few seconds."""
        if not self._service.ready:
            raise RuntimeError('the workers have stopped')
        self._service.set_gauges()


class _Segment(SegmentReplica):
    """One process with a segment."""

    def __init__(self, *args: Any) -> None:
        _listen_to_loopback()
        super().__init__(*args)


def _bind_segments(settings: Settings) -> List[Any]:
    """A deployment of its own for each segment, if that is wanted."""
    found = []
    for index, one in enumerate(settings.segments or ()):
        threads = one.threads or settings.threads
        options = dict(one.ray_actor_options or dict(num_cpus=threads or 1))
        found.append(
            serve.deployment(
                _Segment,
                name=f'Segment{index}',
                num_replicas=one.replicas,
                # What is more waits in the scheduler, to join others.
                max_ongoing_requests=1,
                ray_actor_options=options).bind(
                    settings.folder, index, one.runtime or settings.runtime,
                    one.precision or settings.precision, threads))
    return found


def make_application(settings: Settings, replicas: Any = 1) -> Any:
    """The application for ``serve.run``.

    Args:
        settings (Settings): What each replica is told.
        replicas (int | dict): Their number, or Ray's ``autoscaling_config``.
    """
    scaling: Dict[str, Any] = dict(num_replicas=replicas)
    if not isinstance(replicas, int):
        scaling = dict(autoscaling_config=dict(replicas))
    # The queues of a replica fill its batches, and refuse by themselves.
    most = 2 * settings.max_waiting
    return serve.deployment(
        serve.ingress(_build_asgi)(Classifier),
        name='Classifier',
        max_ongoing_requests=most,
        max_queued_requests=most,
        health_check_period_s=5,
        graceful_shutdown_timeout_s=settings.limits.request_seconds,
        ray_actor_options=dict(
            num_cpus=1 if settings.segments else settings.threads or 1),
        **scaling).bind(settings, *_bind_segments(settings))


def build(arguments: Mapping[str, Any]) -> Any:
    """The application of a YAML file, from its ``args``.

    Args:
        arguments (Mapping): ``replicas``, a number or an
            ``autoscaling_config``, and what
            :class:`~mmdynperceiver.serve.settings.Settings` takes.

    Raises:
        ValueError: If a name is not known or a value does not fit.
    """
    content = dict(arguments)
    replicas = content.pop('replicas', 1)
    return make_application(Settings.from_mapping(content), replicas)
