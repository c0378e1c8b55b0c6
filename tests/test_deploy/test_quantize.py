# Copyright (c) mmdynperceiver contributors. All rights reserved.
import shutil

import numpy as np
import onnx
import pytest

from mmdynperceiver.core import ExitPolicy
from mmdynperceiver.deploy import Preprocessing, Runner
from mmdynperceiver.deploy.export import export_network
from mmdynperceiver.deploy.preprocessing import list_images
from mmdynperceiver.deploy.quantize import (compare, labelled_images,
                                            quantize_segments)
from .conftest import CLASSES, PREPROCESSING, build_net


@pytest.fixture(scope='module')
def labelled(photos, tmp_path_factory):
    """The photos, in folders of two classes."""
    root = tmp_path_factory.mktemp('labelled')
    for number, path in enumerate(list_images(photos)):
        folder = root / CLASSES[number % 2]
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder)
    # The first of a class: labels must not shift.
    (root / CLASSES[0] / '!.png').write_bytes(b'broken')
    return root


def test_int8(resnet, photos, labelled, tmp_path, caplog):
    net = build_net('resnet')
    manifest = export_network(
        *net.exit_parts(),
        tmp_path / 'out',
        PREPROCESSING,
        ExitPolicy(4, (0.5, 0.5, 0.5)),
        CLASSES,
        int8_images=list_images(labelled),
        int8_test=str(labelled))
    assert manifest.precision == 'int8'
    report = manifest.quantization
    assert report['calibration_images'] == 6 == report['test_images']
    assert report['broken_images'] == 1
    assert 'skipped: cannot read' in caplog.text and '!.png' in caplog.text
    before = Runner.load(resnet.folder)
    predicted = [before(path)[0].label for path in list_images(labelled)[1:]]
    assert report['exits'][-1]['fp32'] == pytest.approx(
        100 * np.mean(np.equal(predicted, [0, 0, 0, 1, 1, 1])))
    for row in report['exits']:
        assert 0 <= row['agreement'] <= 1 and 0 <= row['fp32'] <= 100
    nodes = [
        node for segment in manifest.segments
        for node in onnx.load(tmp_path / 'out' / segment.file).graph.node
    ]
    assert any(node.op_type == 'QuantizeLinear' for node in nodes)
    # The classifiers still read what no quantiser has rounded.
    rounded = {
        name
        for node in nodes if node.op_type == 'DequantizeLinear'
        for name in node.output
    }
    classifiers = [
        node for node in nodes
        if node.op_type == 'Gemm' and 'classifiers' in node.name
    ]
    assert len(classifiers) == 4
    assert not rounded & {n for node in classifiers for n in node.input}
    int8 = Runner.load(tmp_path / 'out')
    batch = int8.preprocessing.batch(list_images(photos))
    for exact, got in zip(
            Runner.load(resnet.folder).all_exits(batch),
            int8.all_exits(batch)):
        difference = np.abs(exact - got).max() / np.abs(exact).max()
        assert 1e-4 < difference < 0.5


def test_nothing_readable(resnet, tmp_path):
    (tmp_path / 'a.png').write_bytes(b'broken')
    manifest = Runner.load(resnet.folder).manifest
    with pytest.raises(ValueError, match='none of the 1 images .*a.png'):
        quantize_segments(resnet.folder, manifest.segments,
                          Preprocessing(**PREPROCESSING),
                          [str(tmp_path / 'a.png')])


def test_no_images(resnet):
    manifest = Runner.load(resnet.folder).manifest
    with pytest.raises(ValueError, match='no images to quantise'):
        quantize_segments(resnet.folder, manifest.segments,
                          Preprocessing(**PREPROCESSING), [])


def test_compare():
    exact = [np.array([[1., 0], [0, 1], [0, 1], [1, 0]])]
    other = [np.array([[1., 0], [1, 0], [0, 1], [1, 0]])]
    assert compare(exact, other, None) == [dict(agreement=0.75)]
    assert compare(exact, other,
                   [0, 1, 1, 1]) == [dict(agreement=0.75, fp32=75., int8=50.)]


def test_labels_are_the_folders(labelled):
    files, labels = labelled_images(str(labelled), CLASSES)
    assert labels == [0, 0, 0, 0, 1, 1, 1] and len(files) == 7
    with pytest.raises(ValueError, match="folder 'bee', which is no class"):
        labelled_images(str(labelled), ('ant', 'cow'))
    with pytest.raises(ValueError, match='which is more than one class'):
        labelled_images(str(labelled), ('ant', 'bee', 'bee'))
