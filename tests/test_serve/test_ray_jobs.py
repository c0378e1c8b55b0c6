# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Jobs over many images on Ray Data, an actor of which is killed."""
import json
import signal
import threading
import time

import pytest
from test_deploy import test_jobs as local

from mmdynperceiver.deploy import jobs

pytest.importorskip('ray.data', reason='Ray Data is not installed')
psutil = pytest.importorskip('psutil')
many_photos, runner = local.many_photos, local.runner
NAMES, check = local.NAMES, local.check


def test_by_ray_with_an_actor_killed(runner, many_photos, tmp_path):
    from mmdynperceiver.serve.ray_jobs import run_by_ray
    paths, killed, reasons = many_photos * 4, [], []

    def kill_first():
        """Kill an actor as soon as there is a part."""
        while not list((tmp_path / 'job/parts').glob('*.parquet')):
            time.sleep(.01)
        for each in psutil.process_iter(['cmdline']):
            if 'MapWorker' in ' '.join(each.info['cmdline'] or ()) and \
                    psutil.Process() in each.parents():
                killed.append(each)
                each.kill()

    with jobs.open_job(str(tmp_path / 'job'), paths, runner, NAMES, 2) as job:
        thread = threading.Thread(target=kill_first, daemon=True)
        thread.start()
        counts = []

        def on_done(count, broken):
            counts.append(count)
            reasons.extend(broken)

        before = signal.getsignal(signal.SIGTERM)
        run_by_ray(job, runner, 2, 'skip', 1, on_done)
        # Else forked processes would not always end when they are told to.
        assert signal.getsignal(signal.SIGTERM) is before
        thread.join(30)
        job.finish()
    assert killed and sum(counts) == len(paths) and len(reasons) == 8
    check(tmp_path / 'job', paths, runner)
    description = json.loads((tmp_path / 'job/job.json').read_text())
    assert description['images'] == len(paths)
