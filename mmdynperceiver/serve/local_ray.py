# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Ray on this machine alone, or the cluster that ``RAY_ADDRESS`` names."""
import importlib
import os
import signal
import threading
from contextlib import contextmanager
from typing import Any, Iterator, Optional

from ..io.describe import one_line

__all__ = ['LOOPBACK', 'import_ray', 'not_installed', 'start_ray']

LOOPBACK = '127.0.0.1'


def not_installed(error: ImportError) -> ImportError:
    """What to do where a package of the extra is missing."""
    return ImportError(f'the server is not installed ({one_line(error)}): pip '
                       f'install "mmdynperceiver[serve]"')


def _joins(join: bool) -> bool:
    """Whether a cluster is joined."""
    return join and bool(os.environ.get('RAY_ADDRESS'))


def import_ray(part: str, join: bool = False) -> Any:
    """Import ray.data or ray.serve, for :func:`start_ray`; Ray's makers are
    told nothing of what is done.

    Raises:
        ImportError: Saying what to install.
    """
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    if not _joins(join):  # read while Ray is imported
        os.environ['RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER'] = '0'
    try:
        return importlib.import_module(f'ray.{part}')
    except ImportError as error:
        raise not_installed(error) from error


@contextmanager
def start_ray(cpus: Optional[int] = None, join: bool = False) -> Iterator[Any]:
    """Start Ray as one node, which listens to this machine alone.

    Args:
        cpus (int, optional): Cores that it reckons with, at least two.
            Defaults to None, those of the machine.
        join (bool): Whether to join the cluster that ``RAY_ADDRESS`` names
            instead, if it does. Defaults to False.

    Yields:
        The module ray.

    Raises:
        RuntimeError: If Ray does not start.
    """
    import ray

    # Ray has a handler of its own, and leaves it.
    handler = signal.getsignal(signal.SIGTERM)
    here: Any = dict(
        address='local',
        num_cpus=max(2, cpus or os.cpu_count() or 1),
        include_dashboard=False,
        _node_ip_address=LOOPBACK)
    try:
        ray.init(
            log_to_driver=False,
            configure_logging=False,
            **({} if _joins(join) else here))
    except Exception as error:  # where it takes too long, this very class
        raise RuntimeError(
            f'Ray does not start ({one_line(error)}): if the machine is very '
            f'busy, try again, or use --engine local') from error
    try:
        yield ray
    finally:
        ray.shutdown()
        main = threading.current_thread() is threading.main_thread()
        if main and handler is not None:  # SIG_DFL is 0
            signal.signal(signal.SIGTERM, handler)
