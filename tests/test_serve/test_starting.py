# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What keeps a service from starting, and the settings of a cluster."""
import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from .clients import command, curve_points, environment, free_port

for module in ('fastapi', 'uvicorn', 'python_multipart', 'prometheus_client'):
    pytest.importorskip(
        module, reason=f'the extra "serve" is not installed ({module})')


@pytest.fixture(scope='module')
def damaged(resnet, tmp_path_factory):
    """Folders that cannot be served."""

    def make(name, change):
        folder = tmp_path_factory.mktemp('damaged') / name
        shutil.copytree(resnet.folder, folder)
        manifest = folder / 'manifest.json'
        change(folder, manifest)
        return folder

    def newer(folder, manifest):
        text = manifest.read_text()
        manifest.write_text(text.replace('"format": 1', '"format": 99'))

    return dict(
        damaged=make(
            'damaged', lambda folder, _:
            (folder / 'segment1.onnx').write_bytes(b'x')),
        newer=make('newer', newer),
        missing=make('missing', lambda folder, manifest: manifest.unlink()))


@pytest.mark.parametrize('kind, options, message', [
    ('damaged', (), 'segment1.onnx .* was changed after the export'),
    ('newer', (), 'has the format 99'),
    ('missing', (), 'is no exported folder'),
    (None, ('--thresholds', '0.5'), 'need 3 thresholds'),
    (None, ('--thresholds', '0.5', '-1', '0.5'), 'at least 0 .* got -1'),
    (None, ('--slo-ms', '50'), 'go together'),
    (None, ('--slo-ms', '50', '--curve', 'no.json'), 'No such file'),
    (None, ('--slo-ms', '0.0001', '--curve', '{curve}'), 'cannot be held'),
    (None, ('--slo-ms', '50', '--curve', '{curve}', '--min-accuracy', '0.95'),
     'no point of the curve .* the best has 0.9000'),
    (None, ('--thresholds-file', 'no.json'), 'No such file'),
    (None, ('--thresholds-file', '{curve}'), 'holds 2 operating points'),
    (None, ('--exit', '4'), 'exit'),
    (None, ('--exit', '1', '--slo-ms', '50', '--curve', '{curve}'),
     'exclude each other'),
    (None, ('--max-images', '0'), 'images must be positive, got 0'),
    (None, ('--segment-replicas', '1'), 'is for --engine ray'),
    (None, ('--max-batch', '0'), 'largest batch must be at least 1, got 0'),
])
def test_refuses_to_start(resnet, damaged, tmp_path, capsys, kind, options,
                          message):
    from mmdynperceiver.serve.__main__ import main
    curve = tmp_path / 'curve.json'
    curve.write_text(json.dumps(dict(points=curve_points((0.5, 0.5, 0.5)))))
    options = [option.format(curve=curve) for option in options]
    folder = damaged[kind] if kind else resnet.folder
    options = ['--engine', 'local', '--port', str(free_port()), *options]
    assert main([str(folder), *options]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith('error: ') and re.search(message, line)


def test_the_policy_of_the_options(resnet, tmp_path):
    from mmdynperceiver.serve.__main__ import parse_args, read_settings
    from mmdynperceiver.serve.settings import open_network
    file = tmp_path / 'points.json'
    file.write_text(json.dumps(dict(points=curve_points((0.5, 0.6, 0.7)))))
    for options, thresholds in ((('--exit', '1'), (2., 0., 0.)),
                                (('--thresholds-file', f'{file}:1'), (0.5, 0.6,
                                                                      0.7))):
        args = parse_args([str(resnet.folder), *options])
        runner, points = open_network(read_settings(args))
        assert runner.policy.thresholds == thresholds and not points


def test_a_port_in_use_is_said(resnet):
    with socket.create_server(('127.0.0.1', 0)) as server:
        result = subprocess.run(
            command(resnet.folder, '--port',
                    server.getsockname()[1]),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60)
    assert result.returncode == 1
    assert 'another --port' in result.stderr.strip().splitlines()[-1]


def test_ray_that_does_not_start_is_said(monkeypatch):
    ray = pytest.importorskip('ray', reason='Ray is not installed')
    from mmdynperceiver.serve.local_ray import start_ray

    def init(**settings):
        raise Exception('The current node timed out during startup.\nWhy?')

    monkeypatch.setattr(ray, 'init', init)
    with pytest.raises(RuntimeError, match='timed out.*--engine local'), \
            start_ray():
        pass


def test_settings_of_a_cluster_are_read(resnet):
    pytest.importorskip('ray', reason='Ray is not installed')
    import yaml

    from mmdynperceiver.serve import ray_app
    file = Path(ray_app.__file__).with_name('cluster.yml')
    entry, = yaml.safe_load(file.read_text())['applications']
    assert entry['import_path'] == f'{ray_app.__name__}:build'
    assert ray_app.build(entry['args'])
    with pytest.raises(ValueError, match='got fodler'):
        ray_app.build(dict(folder='x', fodler='y'))
    with pytest.raises(ValueError, match='limits: .*hours'):
        ray_app.build(dict(folder='x', limits=dict(hours=2)))
    segments = [dict(replicas=2, ray_actor_options=dict(num_gpus=1)), {}]
    assert ray_app.build(dict(folder='x', segments=segments))
    for wrong, message in ((3, 'must be a list'), ([dict(gpu=1)], 'replicas'),
                           ([dict(replicas=0)], 'at least 1, got 0')):
        with pytest.raises(ValueError, match=message):
            ray_app.build(dict(folder='x', segments=wrong))
