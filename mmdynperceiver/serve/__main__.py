# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Serve an exported network on this machine.

Run ``python -m mmdynperceiver.serve FOLDER``.
"""
import argparse
import dataclasses
import logging
import os
import signal
import socket
import sys
import threading
from typing import Any, Optional, Sequence

from ..deploy.drift import add_monitor_options
from ..deploy.sessions import PRECISIONS, RUNTIMES
from ..exit_settings import add_policy_options
from ..io.describe import one_line
from ..io.result_file import exit_status
from ..progress import add_quiet_option
from .local_ray import LOOPBACK, import_ray, not_installed, start_ray
from .problems import Limits
from .ray_segments import SegmentDeployment
from .settings import Settings, open_network, start_service

ENGINES = ('ray', 'local')
TOKEN_VARIABLE = 'MMDYNPERCEIVER_TOKEN'
NAME = 'mmdynperceiver'


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    behind = sys.argv[0].startswith(f'{NAME} ')  # of all programs
    parser = argparse.ArgumentParser(
        prog=sys.argv[0] if behind else 'python -m mmdynperceiver.serve',
        description='Serve a network that tools/export.py wrote, by HTTP. '
        f'If {TOKEN_VARIABLE} is set, whoever asks must send it as a bearer '
        'token.')
    add = parser.add_argument
    add('folder', help='folder that tools/export.py wrote')
    add('--engine',
        choices=ENGINES,
        default='ray',
        help='Ray Serve, or only this process (default: ray)')
    add('--host',
        default=LOOPBACK,
        help='address to listen at (default: 127.0.0.1, this machine alone)')
    add('--port', type=int, default=8000, help='(default: 8000)')
    _add_replicas(add)
    add('--runtime', choices=list(RUNTIMES), default='onnxruntime')
    add('--precision', choices=PRECISIONS, default='fp32')
    add('--threads',
        type=int,
        help='threads of a worker (default: one for '
        'each core)')
    add('--workers',
        type=int,
        default=1,
        help='threads that run segments at the same time (default: 1)')
    add('--decoders',
        type=int,
        default=2,
        help='threads that decode images (default: 2)')
    add_policy_options(parser, 'the exported ones')
    _add_queues(add)
    add_monitor_options(
        add, 'the next point of the --curve then, or the next safer '
        'thresholds of the certificate')
    _add_limits(add)
    add_quiet_option(parser)
    return parser.parse_args(argv)


def _add_replicas(add: Any) -> None:
    """Options of the processes under Ray."""
    add('--replicas',
        type=int,
        default=1,
        help='processes with a network each, under Ray (default: 1)')
    add('--segment-replicas',
        nargs='+',
        type=int,
        metavar='N',
        help='under Ray, run each segment in so many processes of its own '
        '(default: all segments in each replica)')


def _add_queues(add: Any) -> None:
    """Options of the scheduler and the controller."""
    add('--max-batch', type=int, default=16, help='(default: 16)')
    add('--max-waiting',
        type=int,
        default=128,
        help='most images under way; others are refused (default: 128)')
    add('--max-wait-ms',
        type=float,
        help='after so long an image goes before new ones (default: what '
        'one image alone takes through all segments)')
    add('--curve',
        metavar='FILE.json',
        help='operating points of tools/calibrate.py --curve')
    add('--slo-ms',
        type=float,
        help='latency that 99 of 100 images keep; under load they get less '
        'depth, by the --curve')
    add('--min-accuracy',
        type=float,
        help='refuse rather than use a point of the --curve with less')


def _add_limits(add: Any) -> None:
    """Options of what a request may be."""
    limits = Limits()
    for name, kind, text in (
        ('body_bytes', int, 'most bytes of a request'),
        ('images', int, 'most images of a request'),
        ('pixels', int, 'most pixels of an image'),
        ('body_seconds', float, 'for a request to arrive'),
        ('request_seconds', float, 'for its answer')):  # yapf: disable
        default = getattr(limits, name)
        add(f'--max-{name.replace("_", "-")}',
            type=kind,
            default=default,
            help=f'{text} (default: {default:g})')


def read_settings(args: argparse.Namespace) -> Settings:
    """What the service is told."""
    given = vars(args)
    limits = {
        field.name: given[f'max_{field.name}']
        for field in dataclasses.fields(Limits)
    }
    content = {
        field.name: given[field.name]
        for field in dataclasses.fields(Settings) if field.name in given
    }
    content.update(
        folder=os.path.abspath(args.folder),
        **{
            name: given[name] and os.path.abspath(given[name])
            for name in ('curve', 'thresholds_file')
        },
        limits=Limits(**limits),
        token=os.environ.get(TOKEN_VARIABLE) or None)
    if args.segment_replicas:
        if args.engine != 'ray':
            raise ValueError('--segment-replicas is for --engine ray')
        content['segments'] = tuple(
            SegmentDeployment(replicas=n) for n in args.segment_replicas)
    return Settings(**content)


def check_port(host: str, port: int) -> None:
    """Refuse an address that cannot be listened at.

    Raises:
        OSError: If it is in use, or not this machine's.
    """
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError) as error:
        raise OSError(
            f'cannot listen at {host}:{port} ({one_line(error)}): choose '
            f'another --port, or end the program that uses it') from error


def serve_local(args: argparse.Namespace, settings: Settings) -> None:
    """Serve in this process until it is stopped."""
    try:
        import uvicorn

        from .http_app import build_app
        from .metrics import PrometheusMetrics
        metrics = PrometheusMetrics()
    except ImportError as error:
        raise not_installed(error) from error
    service = start_service(settings, metrics)
    config = uvicorn.Config(
        build_app(service, settings.token),
        args.host,
        args.port,
        log_level='warning',
        access_log=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(settings.limits.request_seconds))

    class Server(uvicorn.Server):
        """Says when it listens."""

        async def startup(self, sockets: Any = None) -> None:
            """Listen."""
            await super().startup(sockets)
            if not self.should_exit:
                say_ready(args)

    for number in (signal.SIGINT, signal.SIGTERM):
        # Uvicorn stops, and then raises the signal once more.
        signal.signal(number, lambda *_: None)
    Server(config).run()


def serve_by_ray(args: argparse.Namespace, settings: Settings) -> None:
    """Serve by Ray Serve on this machine until it is stopped."""
    serve = import_ray('serve')
    try:
        from .ray_app import make_application
    except ImportError as error:
        raise not_installed(error) from error
    # What is wrong with the folder is said here, not by a replica.
    runner, _ = open_network(settings)
    segments = settings.segments
    if segments and len(segments) != runner.num_exits:
        raise ValueError(f'--segment-replicas takes a number for each of the '
                         f'{runner.num_exits} segments, got {len(segments)}')
    processes = sum(s.replicas for s in segments or ()) + args.replicas
    stop = threading.Event()
    with start_ray((settings.threads or 1) * processes):
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
            serve.start(http_options=dict(host=args.host, port=args.port))
            try:
                serve.run(make_application(settings, args.replicas), name=NAME)
            except RuntimeError as error:
                raise RuntimeError(_why(serve.status())
                                   or str(error)) from error
            say_ready(args)
            stop.wait()
        finally:
            serve.shutdown()


def _why(status: Any) -> str:
    """What a replica says of its failure: the last line of its traceback."""
    lines = [
        line.strip() for app in status.applications.values()
        for deployment in app.deployments.values()
        for line in deployment.message.splitlines() if 'Error: ' in line
    ]
    return lines[-1].partition('Error: ')[2] if lines else ''


def say_ready(args: argparse.Namespace) -> None:
    """Say where the service is."""
    print(f'serving {args.folder} at http://{args.host}:{args.port}',
          flush=True)  # yapf: disable


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Serve what the command line names.

    Returns:
        int: 0 when it was told to stop; 1 if something given does not fit;
        130 if it was interrupted before it served.
    """
    args = parse_args(argv)
    logging.basicConfig(
        level=logging.WARNING if args.quiet else logging.INFO,
        format='%(asctime)s %(levelname)s %(message)s')

    def run() -> None:
        settings = read_settings(args)
        if args.replicas < 1:
            raise ValueError(f'--replicas must be at least 1, got '
                             f'{args.replicas}')
        check_port(args.host, args.port)
        engine = serve_by_ray if args.engine == 'ray' else serve_local
        engine(args, settings)

    return exit_status(run)


if __name__ == '__main__':
    sys.exit(main())
