# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Metrics for Prometheus: of one process, or through Ray's."""
from typing import Any, Dict, List, Mapping, Sequence

__all__ = ['Metrics', 'PrometheusMetrics', 'RayMetrics']

PREFIX = 'mmdynperceiver_'
MILLISECONDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
# Kind, label, description, limits of the buckets.
KINDS: Dict[str, Any] = dict(
    requests=('counter', 'status', 'Requests by the status of the answer.'),
    refusals=('counter', 'status', 'Requests that were refused.'),
    images=('counter', 'exit', 'Images by the exit at which they left.'),
    image_milliseconds=('histogram', 'exit',
                        'From the arrival of an image until it left.',
                        MILLISECONDS),
    batch_size=('histogram', 'segment', 'Images that ran together.', SIZES),
    segment_milliseconds=('histogram', 'segment', 'Time of a batch.',
                          MILLISECONDS),
    waiting=('gauge', 'segment', 'Images that wait before a segment.'),
    operating_point=('gauge', '', 'The operating point in force.'),
    checked=(
        'counter', 'outcome',
        'Images run on to the last exit, by what it says: same, differs.'),
    drift_alarms=('counter', 'kind', 'Alarms of drift: differ, deep.'),
    drift=('gauge', '', 'Share of checked images that differ, lower bound.'))


class Metrics:
    """What is counted; here nothing is kept of it."""

    def add(self, name: str, label: str, value: float) -> None:
        """Count, observe or set one of ``KINDS``."""

    def answered(self, status: int) -> None:
        """A request got an answer of a status."""
        self.add('requests', str(status), 1)
        if status in (413, 503, 504):
            self.add('refusals', str(status), 1)

    def ran(self, index: int, size: int, milliseconds: float) -> None:
        """A segment ran on a batch."""
        self.add('batch_size', str(index), size)
        self.add('segment_milliseconds', str(index), milliseconds)

    def left(self, index: int, milliseconds: float) -> None:
        """An image left."""
        self.add('images', str(index), 1)
        self.add('image_milliseconds', str(index), milliseconds)

    def text(self) -> bytes:
        """What Prometheus reads, empty if it reads it elsewhere."""
        return b''


class _Kept(Metrics):
    """Metrics that a library keeps.

    Args:
        kinds (dict): Its classes, by the names of :data:`KINDS`.
    """

    # How a value gets into each kind of metric.
    CALLS = dict(counter='inc', gauge='set', histogram='observe')

    def __init__(self, kinds: Mapping[str, Any]) -> None:
        self._found = {
            name:
            self._make(kinds[kind], PREFIX + name, text,
                       [label] if label else [], *limits)
            for name, (kind, label, text, *limits) in KINDS.items()
        }

    def _make(self,
              kind: Any,
              name: str,
              text: str,
              labels: List[str],
              limits: Sequence[float] = ()) -> Any:
        """One metric."""
        raise NotImplementedError

    def add(self, name: str, label: str, value: float) -> None:
        """Count, observe or set."""
        kind, key, *_ = KINDS[name]
        self._put(self._found[name], self.CALLS[kind], key, label, value)

    def _put(self, metric: Any, call: str, key: str, label: str,
             value: float) -> None:
        """Hand a value to a metric."""
        raise NotImplementedError


class PrometheusMetrics(_Kept):
    """Metrics of this process."""

    def __init__(self) -> None:
        import prometheus_client as client
        self._client = client
        self._registry = client.CollectorRegistry()
        super().__init__(
            dict(
                counter=client.Counter,
                gauge=client.Gauge,
                histogram=client.Histogram))

    def _make(self,
              kind: Any,
              name: str,
              text: str,
              labels: List[str],
              limits: Sequence[float] = ()) -> Any:
        more = dict(buckets=limits) if limits else {}
        return kind(name, text, labels, registry=self._registry, **more)

    def _put(self, metric: Any, call: str, key: str, label: str,
             value: float) -> None:
        getattr(metric.labels(label) if key else metric, call)(value)

    def text(self) -> bytes:
        """What Prometheus reads."""
        return self._client.generate_latest(self._registry)


class RayMetrics(_Kept):
    """Metrics that Ray collects from all replicas, under ``ray_...``."""

    def __init__(self) -> None:
        from ray.util import metrics
        super().__init__(
            dict(
                counter=metrics.Counter,
                gauge=metrics.Gauge,
                histogram=metrics.Histogram))

    def _make(self,
              kind: Any,
              name: str,
              text: str,
              labels: List[str],
              limits: Sequence[float] = ()) -> Any:
        more = dict(boundaries=list(limits)) if limits else {}
        return kind(name, description=text, tag_keys=tuple(labels), **more)

    def _put(self, metric: Any, call: str, key: str, label: str,
             value: float) -> None:
        getattr(metric, call)(value, tags={key: label} if key else None)
