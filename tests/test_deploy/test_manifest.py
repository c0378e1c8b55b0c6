# Copyright (c) mmdynperceiver contributors. All rights reserved.
import copy
import json
import math
import os
import shutil

import numpy as np
import onnx
import pytest

from mmdynperceiver.deploy import Manifest, Runner
from mmdynperceiver.deploy.manifest import MANIFEST, Segment
from mmdynperceiver.io.checksums import content_sha256, file_sha256


@pytest.fixture
def folder(resnet, tmp_path):
    """A copy of an exported folder."""
    return shutil.copytree(resnet.folder, tmp_path / 'copy')


def content_of(folder):
    return json.loads((folder / MANIFEST).read_text())


def write(folder, content):
    """Write a manifest as someone does who edits it, checksum included."""
    content = {k: v for k, v in content.items() if k != 'manifest_sha256'}
    try:
        content['manifest_sha256'] = content_sha256(content)
    except RecursionError:
        pass
    (folder / MANIFEST).write_text(json.dumps(content))


def edit(content, path, value):
    """Change an entry, the keys of which have spaces between them."""
    *keys, last = (int(k) if k.isdecimal() else k for k in path.split(' '))
    for key in keys:
        content = content[key]
    if value == 'remove':
        del content[last]
    else:
        content[last] = value


HUGE = 10**400
RESIZE = dict(
    kind='resize', size=[48, 48], interpolation='bilinear', library='pillow')
CHANGES = [
    ('format', True, 'format True'),
    ('format', 1.0, 'format 1.0'),
    ('segments', 'remove', "'segments' is missing"),
    ('segments', [], 'segments must be a list of 1 to 64'),
    ('segments', {}, 'segments must be a list'),
    ('segments 0', None, r'segments\[0\] must be an object'),
    ('segments 1 more', 1, "'more' in segments.1. is not kn"),
    ('segments 0 file', 7, r'segments\[0\].file must be the'),
    *[('segments 0 file', name, r'segments\[0\].file must be')
      for name in ('', '.', '..', '../segment0.onnx', '/etc/passwd',
                   'a/b.onnx', 'a\\b.onnx', 'C:a.onnx', 'a.onnx\0', 'a.onnx\n',
                   'a' * 300 + '.onnx', '.hidden.onnx', 'segment0.xml',
                   '\ud800.onnx')],
    ('segments 0 file', 'segment1.onnx', 'sha256 must have'),
    ('segments 1 inputs', ['nobody'], "inputs has 'nobody'"),
    ('segments 0 inputs', ['x2'], "'x2', which no earlier"),
    ('segments 0 inputs', [], r'inputs must be a list of 1'),
    ('segments 1 inputs', ['x0', 'x0'], 'a tensor twice'),
    ('segments 1 inputs', ['x0'], 'segment1.onnx in .* takes'),
    ('segments 1 inputs', [['x0']], r'inputs\[0\] must be'),
    ('segments 0 outputs', ['logits0', 'x0',
                            'images'], "'images', which there is already"),
    ('segments 3 outputs', ['logits0'], "'logits0', which"),
    ('segments 0 outputs', ['z0', 'logits0', 'x0'], 'must begin with logits'),
    ('segments 0 outputs', ['logits0', 'z0',
                            'x0'], 'segment0.onnx in .* returns'),
    ('tensors images', 'remove', 'images'),
    ('tensors x0', 'remove', "tensors has no 'x0'"),
    ('tensors spare', ['batch', 1], 'tensors has spare'),
    ('tensors x0', ['batch'], 'must be a list of 2 to 8'),
    ('tensors x0 0', 1, "must be 'batch', got 1"),
    ('tensors x0 1', 0, 'whole number of 1 to'),
    ('tensors x0 1', True, 'got True'),
    ('tensors x0 1', HUGE, 'whole number of 1 to'),
    ('tensors x0', ['batch', 1 << 20, 1 << 20], 'elements for'),
    ('tensors x0 1', 5, 'x0 in the shape'),
    ('tensors logits0 1', 4, 'must begin with logits'),
    ('classes', list('abcd'), 'must begin with logits'),
    ('classes', [], 'classes must be a list of 1 to'),
    ('classes', 'abcde', 'classes must be a list'),
    ('classes 2', 2, r'classes\[2\] must be a text, got 2'),
    ('classes 2', '\udc80', 'a text of whole characters'),
    ('macs_per_exit', [1, 2, 3], 'must hold 4 numbers'),
    ('macs_per_exit', [1, 2, 2, 3], 'larger than the one before'),
    ('macs_per_exit', [4, 3, 2, 1], 'larger than the one before'),
    ('macs_per_exit', [0, 1, 2, 3], 'whole number of 1 to'),
    ('macs_per_exit', [1, 2, 3, HUGE], 'whole number of 1 to'),
    ('macs_per_exit 0', 1.5, 'whole number of 1 to'),
    ('macs_per_exit', None, 'macs_per_exit must be a list'),
    ('policy', [], 'policy must be an object'),
    ('policy thresholds', [.5], 'need 3 thresholds'),
    ('policy thresholds', [.5] * 4, 'need 3 thresholds'),
    ('policy thresholds', ['.5'] * 3, 'must be a number'),
    ('policy thresholds', [True] * 3, 'must be a number'),
    ('policy thresholds', [-1, 0, 0], 'must be a number of 0'),
    ('policy thresholds', [HUGE, 0, 0], 'must be a number of'),
    ('policy thresholds', '012', 'must be a list'),
    ('policy criterion', 'luck', 'criterion must be one of'),
    ('policy criterion', 'learned', 'is one of detectors'),
    ('policy criterion', None, 'criterion must be a text'),
    ('policy temperature', [1, 1], 'need 4 temperatures'),
    ('policy temperature', [0, 1, 1, 1], 'above 0'),
    ('policy mood', 'bad', "'mood' in policy is not known"),
    ('preprocessing', None, 'preprocessing must be an object'),
    ('preprocessing mean', 'remove', "'mean' in prep"),
    ('preprocessing mean', [0, 0], 'list of 3 entries'),
    ('preprocessing std', [1, 0, 1], r'std\[1\] must be a num'),
    ('preprocessing std', [1, HUGE, 1], r'std\[1\] must be a'),
    ('preprocessing size', [0, 48], r'size\[0\] must be a who'),
    ('preprocessing size', [48, 1 << 30], r'size\[1\] must be'),
    ('preprocessing size', [48, 32], r'\[48, 32\] of'),
    ('preprocessing size', 48, 'size must be a list'),
    ('preprocessing decoder', 'eval', 'decoder must be one of'),
    ('preprocessing channels', 'xyz', 'channels must be one'),
    ('preprocessing hook', 'os', "'hook' in preprocessing is"),
    ('preprocessing steps', [dict(kind='explode')],
     r'steps\[0\].kind must be one of'),
    ('preprocessing steps', [dict(kind=['resize'])],
     r'steps\[0\].kind must be one of'),
    ('preprocessing steps', ['resize'], r'steps\[0\].kind must be one of'),
    ('preprocessing steps', [dict(RESIZE,
                                  size=48)], 'size must be a list of 2'),
    ('preprocessing steps', [dict(RESIZE,
                                  size=[48, 10**6])], 'whole number of 1 to'),
    ('preprocessing steps', [dict(RESIZE,
                                  library='gimp')], 'library must be one of'),
    ('preprocessing steps', [dict(RESIZE, interpolation='area')],
     'interpolation must be one'),
    ('preprocessing steps', [dict(kind='resize_edge',
                                  size=48)], "'edge' in preprocessing.st"),
    ('precision', 'fp4', 'precision must be one of'),
    ('versions', [], 'versions must be an object'),
    ('sha256', {}, 'sha256 must have each file'),
    ('sha256 segment0.onnx', 5, 'must be a SHA-256'),
    ('sha256 ../a.onnx', '0' * 64, 'a key of sha256 must be'),
    ('certificate', dict(risk='disagreement'), "'max_risk' in certificate"),
    ('certificate', dict(risk='', max_risk=2), 'max_risk must be a number of'),
    ('more', 1, "'more' is not known"),
]


@pytest.mark.parametrize('path, value, message', CHANGES)
def test_manifests_that_do_not_fit_are_refused(folder, path, value, message):
    content = content_of(folder)
    edit(content, path, value)
    write(folder, content)
    with pytest.raises(ValueError, match=message) as caught:
        Runner.load(folder, threads=1)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize('text, message', [
    ('[' * 100000, 'nested too deeply'),
    ('{"a":' * 100000, 'nested too deeply'),
    ('', 'is not JSON'),
    ('7', 'must hold an object, got int'),
    ('{"format": 1, "format": 2}', "'format' is there more than once"),
    ('{"format": NaN}', 'NaN is no number'),
    ('{"format": -Infinity}', '-Infinity is no number'),
    ('{"format": 1e999}', "'1e999' is too large"),
    ('{"format": ' + '9' * 5000 + '}', 'is not JSON'),
    ('{"format": 99}', 'format 99'),
    (b'\xff\xfe\x00', 'is not JSON'),
    (b'{"format": "\xff"}', 'is not JSON'),
])
def test_files_that_are_no_manifest_are_refused(folder, text, message):
    content = text if isinstance(text, bytes) else text.encode()
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Manifest.load(folder)


@pytest.mark.parametrize('change, message', [
    (lambda f: (f / 'segment2.onnx').unlink(), 'segment2.onnx is missing'),
    (lambda f: (f / MANIFEST).unlink(), 'no manifest.json'),
    (lambda f: change_bytes(f / 'segment1.onnx', b'\0'),
     'segment1.onnx .* was changed'),
    (lambda f: change_bytes(f / MANIFEST, b'', (b'null', b'[0, 0, 0]')),
     'manifest.json .* was changed'),
])
def test_refuses_changed_and_incomplete_folders(folder, change, message):
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        Runner.load(folder)


def change_bytes(path, added, replaced=(b'', b'')):
    path.write_bytes(path.read_bytes().replace(*replaced, 1) + added)


def as_link(path, other):
    shutil.move(path, other)
    path.symlink_to(other)


def as_pipe(path, other):
    path.unlink()
    os.mkfifo(path)


def as_folder(path, other):
    path.unlink()
    path.mkdir()


def as_device(path, other):
    path.unlink()
    path.symlink_to('/dev/zero')


def as_large_file(path, other):
    with open(path, 'r+b') as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize('name', [MANIFEST, 'segment1.onnx'])
@pytest.mark.parametrize(
    'change', [as_link, as_pipe, as_folder, as_device, as_large_file])
def test_only_regular_files_are_read(folder, tmp_path, name, change):
    change(folder / name, tmp_path / 'other')
    with pytest.raises((ValueError, OSError), match=name) as caught:
        Runner.load(folder)
    assert '\n' not in str(caught.value)


def test_a_folder_may_be_a_link(folder, tmp_path, batch):
    (tmp_path / 'link').symlink_to(folder)
    runner = Runner.load(tmp_path / 'link')
    assert len(runner.predict(batch).exit_index) == 7


def replace_graph(folder, name, change):
    """Change a graph, and its checksum with it."""
    model = onnx.load(folder / name)
    change(model)
    onnx.save(model, folder / name)
    content = content_of(folder)
    content['sha256'][name] = file_sha256(folder / name)
    write(folder, content)


def weight_outside(model):
    weight = next(t for t in model.graph.initializer if t.raw_data)
    weight.ClearField('raw_data')
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key='location', value='/etc/passwd')


def of_unknown_operator(model):
    model.graph.node[0].op_type = 'Nonsense'


def of_wrong_shape(model):
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    weight.dims[1] += 1


def of_nan(model):
    """The bias of the classifier, which is what is computed last."""
    weight = next(t for t in model.graph.initializer if list(t.dims) == [5])
    weight.CopyFrom(
        onnx.numpy_helper.from_array(
            np.full(5, np.nan, np.float32), weight.name))


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('change, message', [
    (weight_outside, 'external data'),
    (of_unknown_operator, 'cannot be'),
    (of_wrong_shape, 'cannot be'),
    (of_nan, 'logits that are not finite for 1 of 1 images'),
])
def test_what_a_runtime_refuses_is_one_line(folder, runtime, threads, change,
                                            message, capfd):
    replace_graph(folder, 'segment1.onnx', change)
    with pytest.raises(ValueError, match=f'^segment1.onnx .*{message}') as why:
        Runner.load(folder, runtime, threads)
    assert '\n' not in str(why.value) and len(str(why.value)) < 600
    assert capfd.readouterr().out == ''


def test_graphs_of_the_first_version_still_load(folder, batch):
    """Without what later versions write."""
    content = content_of(folder)
    for name in ('precision', 'source', 'versions', 'quantization'):
        del content[name]
    for name in ('decoder', 'channels'):
        content['preprocessing'].pop(name, None)
    write(folder, content)
    assert len(Runner.load(folder).predict(batch).exit_index) == 7


def test_numbers_of_numpy_are_written_as_such(folder):
    manifest = Manifest.load(folder)
    other = copy.deepcopy(manifest)
    other.preprocessing['size'] = np.array([48, 48])
    other.preprocessing['mean'] = tuple(
        np.float32(x) for x in manifest.preprocessing['mean'])
    other.macs_per_exit = np.array(manifest.macs_per_exit)
    other.policy['thresholds'] = np.float64([.5, .5, .5])
    other.save(folder)
    loaded = Manifest.load(folder)
    assert loaded.macs_per_exit == manifest.macs_per_exit
    assert loaded.preprocessing['size'] == [48, 48]
    assert loaded.policy['thresholds'] == [.5, .5, .5]


@pytest.mark.parametrize('field, value', [
    ('classes', ['a', 'b']),
    ('macs_per_exit', [1, 2]),
    ('policy', dict(thresholds=[math.nan] * 3)),
    ('segments', [Segment('../segment0.onnx', ['images'], ['logits0'])]),
])
def test_what_no_runner_takes_is_not_written(folder, field, value):
    manifest = Manifest.load(folder)
    before = (folder / MANIFEST).read_text()
    setattr(manifest, field, value)
    shutil.copy(folder / 'segment0.onnx', folder.parent)
    with pytest.raises(ValueError):
        manifest.save(folder)
    assert (folder / MANIFEST).read_text() == before
