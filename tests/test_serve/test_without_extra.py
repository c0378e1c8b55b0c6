# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The service where neither a server nor torch is installed."""
import pytest

BLOCK = '''
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'ray', 'fastapi', 'uvicorn',
                                      'starlette', 'prometheus_client'):
            raise ImportError(name + ' is blocked')

sys.meta_path.insert(0, Block())
'''


@pytest.mark.parametrize('engine', ['ray', 'local'])
def test_says_what_to_install(resnet, run_python, engine):
    result = run_python(BLOCK + f"""
from mmdynperceiver.serve.__main__ import main
sys.exit(main([{resnet.folder!r}, '--engine', {engine!r}, '--port', '0']))
""")
    assert result.returncode == 1, result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith('error: the server is not installed (')
    assert line.endswith('pip install "mmdynperceiver[serve]"')


def test_the_scheduler_needs_neither(resnet, run_python):
    result = run_python(BLOCK + f"""
import numpy as np
from mmdynperceiver.serve.metrics import Metrics
from mmdynperceiver.serve.settings import Settings, start_service
service = start_service(Settings({resnet.folder!r}, max_batch=2), Metrics())
image = np.zeros((3, 48, 48), np.float32)
print(service.scheduler.submit(image).result(30).exit_index)
service.close()
""")
    assert result.stdout.strip() == '3', result.stderr
