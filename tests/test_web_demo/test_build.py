# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a page is made of, and which networks it refuses."""
import json
from dataclasses import replace

import pytest

from mmdynperceiver.deploy.manifest import Detection, Manifest, Segment
from mmdynperceiver.errors import InputError
from projects.web_demo import __main__ as command
from projects.web_demo import build_page
from projects.web_demo.build import FILES, PAGE, check_runnable

CV2 = [
    dict(
        kind='resize', size=[48, 48], interpolation='bilinear', library='cv2')
]
ENSEMBLE = dict(
    kind='average',
    weights=[[1.], [.5, .5], [.2, .3, .5], [.25, .25, .25, .25]])
STOPPING = [[0.] * 6] * 3


@pytest.fixture
def stand_in(tmp_path):
    """Files under the names of the package's, for what runs nothing."""

    def make(version='1.30.0'):
        folder = tmp_path / f'package{version}'
        (folder / 'dist').mkdir(parents=True)
        (folder / 'package.json').write_text(json.dumps(dict(version=version)))
        for name in FILES:
            (folder / 'dist' / name).write_bytes(name.encode())
        return folder

    return make


def test_the_folder_has_all_that_the_page_asks_for(resnet, photos, stand_in,
                                                   tmp_path, monkeypatch,
                                                   capsys):
    out, sample = tmp_path / 'page', next(photos.glob('1*'))
    monkeypatch.setattr('sys.argv', [
        'web_demo', resnet.folder,
        str(out), '--onnxruntime-web',
        str(stand_in()), '--samples',
        str(sample)
    ])
    command.main()
    assert '4 segments, 5 classes' in capsys.readouterr().out
    found = {str(p.relative_to(out)) for p in out.rglob('*') if p.is_file()}
    assert found == {
        'model/manifest.json', *(f'model/segment{k}.onnx' for k in range(4)),
        *(f'onnxruntime/{name}' for name in FILES), 'samples/samples.json',
        f'samples/{sample.name}', *(path.name for path in PAGE.iterdir())
    }
    assert (out / 'model/segment2.onnx').read_bytes() == open(
        f'{resnet.folder}/segment2.onnx', 'rb').read()
    with pytest.raises(FileExistsError, match='choose another folder'):
        build_page(resnet.folder, out, stand_in('2.0'))


@pytest.mark.parametrize('change, message', [
    (dict(precision='int8'), "precision 'int8', and the page runs fp32"),
    (dict(ensemble=ENSEMBLE), 'an ensemble .* without --ensemble'),
    (dict(criterion='logistic', stopping=STOPPING), "criterion 'logistic'"),
    (dict(steps=CV2), "by OpenCV, .* backend='pillow'"),
])
def test_refuses_what_it_would_run_otherwise(changed, tmp_path, change,
                                             message):
    with pytest.raises(InputError, match=message):
        build_page(changed(**change), tmp_path / 'page')
    assert not (tmp_path / 'page').exists()


def test_refuses_networks_of_other_kinds(resnet):
    manifest = Manifest.read(resnet.folder)
    head = Segment('head.onnx', ['map1'], ['scores0'])
    videos = dict(manifest.preprocessing, video=dict(num_clips=4))
    for change in (dict(detection=Detection([], head, [['map1']], {})),
                   dict(preprocessing=videos)):
        with pytest.raises(InputError, match='those that classify images'):
            check_runnable(replace(manifest, **change), 'exported')


def test_refuses_other_packages_and_samples(resnet, stand_in, tmp_path,
                                            monkeypatch):
    out = tmp_path / 'page'
    with pytest.raises(InputError, match='1.22.3 is too old .* needs 1.23'):
        build_page(resnet.folder, out, stand_in('1.22.3'))
    with pytest.raises(FileNotFoundError, match='is not the package'):
        build_page(resnet.folder, out, tmp_path)
    with pytest.raises(FileNotFoundError, match='no image'):
        build_page(resnet.folder, out, stand_in(), [tmp_path / 'a.png'])
    (tmp_path / 'a.txt').touch()
    with pytest.raises(InputError, match="got 'a.txt'"):
        build_page(resnet.folder, out, samples=[tmp_path / 'a.txt'])
    (tmp_path / 'a.png').touch()
    with pytest.raises(InputError, match="'a.png' is there more than once"):
        build_page(resnet.folder, out, samples=[tmp_path / 'a.png'] * 2)
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(InputError, match='no npm .* --onnxruntime-web'):
        build_page(resnet.folder, out)
    # Something under its name that fails, or brings another file.
    npm = tmp_path / 'npm'
    npm.write_text('#!/bin/sh\necho no network >&2\nexit 1\n')
    npm.chmod(0o755)
    with pytest.raises(InputError, match='no network'):
        build_page(resnet.folder, out)
    npm.write_text('#!/bin/sh\necho other > onnxruntime-web.tgz\n')
    with pytest.raises(InputError, match='SHA-512 .* it is not used'):
        build_page(resnet.folder, out)
    assert not out.exists()
