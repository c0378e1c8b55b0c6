# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A minute of damaged files and of killed programs.

``tools/dev/fuzz.py`` and ``tools/dev/kill.py`` go on for hours.
"""
import os
import subprocess
import sys

import pytest

pytest.importorskip('mmpretrain')
pytest.importorskip('onnxruntime')
pytest.importorskip('openvino')


@pytest.mark.parametrize('script, options', [('fuzz', ['--most', '60']),
                                             ('kill', [])])
def test_nothing_falls_through(repo_root, script, options):
    environment = dict(os.environ, PYTHONPATH=str(repo_root))
    done = subprocess.run([
        sys.executable, '-W', 'ignore', repo_root / f'tools/dev/{script}.py',
        '--seconds', '20', *options
    ],
                          env=environment,
                          capture_output=True,
                          text=True,
                          timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    counts = [
        int(line.split()[1]) for line in done.stdout.splitlines()
        if line.endswith(' faults')
    ]
    assert len(counts) >= 4 and min(counts) >= 1


@pytest.mark.parametrize('fault, status', [('Fault("wrong")', 1),
                                           ('SystemExit(3)', 1), ('None', 0)])
def test_a_fault_counts(repo_root, run_python, fault, status):
    """The fuzzer runs a fault again, and fails if it comes again."""
    done = run_python(
        'import sys, fuzz\n'
        'from fuzz_kinds import Fault\n'
        'def bad(rng):\n'
        f'    fault = {fault}\n'
        '    if fault: raise fault\n'
        'fuzz.KINDS.clear()\n'
        'fuzz.KINDS["bad"] = lambda files: bad\n'
        'sys.argv = ["fuzz", "--seconds", "0", "--most", "2"]\n'
        'sys.exit(fuzz.main())',
        paths=[repo_root / 'tools/dev'])
    assert done.returncode == status, done.stdout + done.stderr
    assert ('--kind bad --case 0' in done.stdout) == bool(status)
