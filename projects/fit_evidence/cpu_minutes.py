# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""``mmdynperceiver fit`` whose ``--minutes`` are of CPU time.

For machines that others keep busy: two trainings get the same work done,
whoever else runs. Images are decoded in the same process, so that it counts.
"""
import os
import time
from types import SimpleNamespace

import mmdynperceiver.fitting.measure as measure
import mmdynperceiver.fitting.run as run
from mmdynperceiver.cli.common import run_tool
from mmdynperceiver.fitting import command
from mmdynperceiver.hosts import TimedScheduleHook


def main() -> None:
    """Change the clocks, then fit."""
    command.parse_args()  # --help and mistakes change nothing
    clock = SimpleNamespace(
        perf_counter=time.process_time, monotonic=time.process_time)
    measure.time = run.time = clock  # type: ignore[assignment]
    os.cpu_count = lambda: 1  # type: ignore[assignment]
    TimedScheduleHook.__init__.__defaults__ = (None, 0.1, time.process_time)
    command.main()


if __name__ == '__main__':
    run_tool(main)
