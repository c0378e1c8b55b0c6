# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""All that a service can be told, and how it is put together."""
import dataclasses
import logging
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ..deploy.drift import DriftMonitor
from ..deploy.policy import Policy
from ..deploy.preprocessing import check_takes_images
from ..deploy.runner import Runner
from ..exit_settings import fixed_exit_thresholds
from .controller import Controller
from .drift_watch import DriftWatch
from .metrics import Metrics
from .operating_curve import CurvePoint, load_curve, load_point
from .problems import Limits
from .ray_segments import SegmentDeployment, segment_deployments
from .scheduler import StagedScheduler
from .segment_costs import measure_costs
from .service import Recorder, Service

__all__ = ['Settings', 'start_service']

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What a service is told.

    Args:
        folder (str): Folder that ``tools/export.py`` wrote.
        runtime, precision, threads, thresholds: As of
            :meth:`~mmdynperceiver.deploy.Runner.load`; ``threads`` are those
            of one worker.
        thresholds_file (str, optional): Instead of ``thresholds``, file of an
            operating point, as ``tools/calibrate.py`` writes it; of a sweep,
            'FILE:12'.
        exit (int, optional): Instead of both, the one exit at which all
            leave.
        max_batch, max_waiting, max_wait_ms, workers: As of
            :class:`~mmdynperceiver.serve.scheduler.StagedScheduler`.
        decoders (int): Threads that decode. Defaults to 2.
        limits (Limits): What a request may be.
        curve (str, optional): File of ``tools/calibrate.py --curve``.
        slo_ms (float, optional): Latency that 99 of 100 images keep, by
            moving along the curve.
        min_accuracy (float, optional): Accuracy below which the curve is not
            used.
        token (str, optional): Bearer token.
        monitor (float, optional): Share of the images that also run to the
            last exit, to notice when a certificate holds no longer.
        fall_back (bool): Whether to turn to safer thresholds then. Defaults
            to False.
        segments (Sequence[SegmentDeployment], optional): Under Ray, a
            deployment of its own for each segment. Defaults to None, all
            segments in each replica.
    """

    folder: str
    runtime: str = 'onnxruntime'
    precision: str = 'fp32'
    threads: Optional[int] = None
    thresholds: Optional[Sequence[float]] = None
    thresholds_file: Optional[str] = None
    exit: Optional[int] = None
    max_batch: int = 16
    max_waiting: int = 128
    max_wait_ms: Optional[float] = None
    workers: int = 1
    decoders: int = 2
    limits: Limits = Limits()
    curve: Optional[str] = None
    slo_ms: Optional[float] = None
    min_accuracy: Optional[float] = None
    token: Optional[str] = dataclasses.field(default=None, repr=False)
    monitor: Optional[float] = None
    fall_back: bool = False
    segments: Optional[Sequence[SegmentDeployment]] = None

    def __post_init__(self) -> None:
        if (self.curve is None) != (self.slo_ms is None):
            raise ValueError('a latency target (slo_ms) and a curve of '
                             'operating points go together: give both')
        ways = ('thresholds', 'thresholds_file', 'exit')
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) > 1 or given and self.curve is not None:
            raise ValueError(f'thresholds are said once: {", ".join(ways)} '
                             f'and a curve exclude each other')
        if self.min_accuracy is not None and self.curve is None:
            raise ValueError('min_accuracy needs a curve')
        if self.fall_back and self.monitor is None:
            raise ValueError('fall_back is what the monitor does: give '
                             'monitor, a share such as 0.02')
        if self.monitor is not None and given:
            raise ValueError(f'the monitor watches the thresholds that were '
                             f'certified: leave out {given[0]}')
        if self.token is not None and len(self.token) < 8:
            raise ValueError('a token must have at least 8 characters')
        if self.segments is not None and self.workers != 1:
            raise ValueError('workers and segments exclude each other: of '
                             'segments each replica is a worker')
        if self.decoders < 1:
            raise ValueError(f'decoders must be at least 1, got '
                             f'{self.decoders}')

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> 'Settings':
        """Settings from names and values, such as those of a YAML file.

        Raises:
            ValueError: If a name is not known or a value does not fit.
        """
        content = dict(given)
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(content) - known)
        if unknown or 'folder' not in content:
            raise ValueError(
                f'a service takes folder and {", ".join(sorted(known))}; '
                f'got {", ".join(unknown) or "no folder"}')
        try:
            content['limits'] = Limits(**dict(content.get('limits') or {}))
        except TypeError as error:
            raise ValueError(f'limits: {error}') from error
        if content.get('segments') is not None:
            content['segments'] = segment_deployments(content['segments'])
        return cls(**content)


def open_network(
    settings: Settings,
    sessions: Optional[Sequence[Any]] = None
) -> Tuple[Runner, List[CurvePoint]]:
    """The network, and the points of its curve, none without one.

    Args:
        settings (Settings): What the service is told.
        sessions (Sequence, optional): The segments, where they are open
            already. Defaults to None.

    Raises:
        FileNotFoundError: If the folder or a file is missing.
        ImportError: If the runtime is not installed.
        ValueError: If a file was changed or a setting does not fit.
    """
    runner = Runner.load(
        settings.folder,
        settings.runtime,
        settings.threads,
        settings.precision,
        settings.thresholds,
        sessions=sessions)
    check_takes_images(runner.preprocessing, settings.folder)
    number = runner.num_exits
    if settings.thresholds_file is not None:
        runner.policy = load_point(settings.thresholds_file, number)
    elif settings.exit is not None:
        runner.policy = Policy(number,
                               fixed_exit_thresholds(settings.exit, number))
    if settings.monitor is not None:  # what is wrong is said here
        DriftMonitor.of_certificate(
            runner.manifest.certificate, share=settings.monitor)
    if not settings.curve:
        return runner, []
    return runner, load_curve(settings.curve, runner.num_exits,
                              settings.min_accuracy)


def start_service(settings: Settings,
                  metrics: Metrics,
                  sessions: Optional[Sequence[Any]] = None) -> Service:
    """Open the network, measure its segments, and start the workers.

    Takes and raises what :func:`open_network` does.
    """
    runner, points = open_network(settings, sessions)
    LOGGER.info('measuring what the segments cost')
    costs = measure_costs(runner, settings.max_batch)
    recorder = Recorder(metrics, costs)
    scheduler = StagedScheduler(
        runner, runner.policy, costs, settings.max_batch, settings.max_waiting,
        settings.max_wait_ms, settings.workers, recorder, settings.segments
        and [s.replicas for s in settings.segments])
    LOGGER.info('batches of %s before the segments', scheduler.sizes)
    controller = None
    if points:
        assert settings.slo_ms is not None
        try:
            controller = Controller(scheduler, recorder.load, points,
                                    settings.slo_ms)
        except ValueError:
            scheduler.close()
            raise
    watch = None
    if settings.monitor is not None:
        watch = DriftWatch(runner, scheduler, metrics, settings.monitor,
                           settings.fall_back, controller)
    return Service(runner, scheduler, recorder, settings.limits,
                   settings.decoders, controller, watch)
