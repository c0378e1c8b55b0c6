# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Files that are damaged, lie about sizes or hold what no network takes."""
import errno
import io
import os
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch
from test_core.reference import publish

from mmdynperceiver.core import DynPerceiver, load_official
from mmdynperceiver.io.checkpoint_file import (atomic_save, check_weights,
                                               dtype_fault, read_checkpoint)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'c.pth'
    torch.save(dict(a=torch.arange(100.), b=torch.ones(3)), path)
    return path


class Storage:
    """Stands for a storage while a hostile file is written."""

    def __init__(self, size):
        self.size = size


class Tensor:
    """Pickled as a tensor of a storage of any size."""

    def __init__(self, size, shape):
        self.parts = Storage(size), 0, shape, (1, ), False, OrderedDict()

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.parts


class Call:
    """Pickled as a call."""

    def __init__(self, function, *args):
        self.parts = function, args

    def __reduce__(self):
        return self.parts


def dump(content, legacy=False):
    """Pickle with storages as torch.save does."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=2)
    pickler.persistent_id = lambda item: (
        'storage', torch.FloatStorage, '0', 'cpu', item.size, *(
            [None] if legacy else [])) if isinstance(item, Storage) else None
    pickler.dump(content)
    return buffer.getvalue()


def write(path, content, data=bytes(40), legacy=False, compressed=False):
    if legacy:
        parts = [0x1950a86a20f9469cfc6c, 1001, dict(little_endian=True)]
        path.write_bytes(b''.join(
            pickle.dumps(part, protocol=2)
            for part in parts) + dump(content, True) +
                         pickle.dumps(['0'], protocol=2) +
                         (len(data) // 4).to_bytes(8, 'little') + data)
        return path
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, 'w', kind) as archive:
        for name, part in (('data.pkl', dump(content)), ('byteorder',
                                                         b'little'),
                           ('data/0', data), ('version', b'3\n')):
            archive.writestr(f'c/{name}', part)
    return path


@pytest.mark.parametrize('legacy', [False, True])
def test_the_files_written_here_are_files_of_torch(tmp_path, legacy):
    content = dict(a=Tensor(10, (10, )))
    read = read_checkpoint(write(tmp_path / 'c.pth', content, legacy=legacy))
    assert torch.equal(read['a'], torch.zeros(10))


def test_both_formats_are_read(tmp_path):
    content = dict(a=torch.arange(5.), b=[torch.ones(2).half()], c='text')
    for new in (True, False):
        torch.save(
            content, tmp_path / 'c.pth', _use_new_zipfile_serialization=new)
        read = read_checkpoint(tmp_path / 'c.pth')
        assert torch.equal(read['a'], content['a'])
        assert torch.equal(read['b'][0], content['b'][0])


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('content', [
    dict(a=Tensor(6_000_000_000, (10, ))),
    dict(a=Tensor(1000, (10, ))),
    dict(a=Tensor(10, (6_000_000_000, ))),
    dict(a=Tensor(10, (11, ))),
    dict(a=Call(torch.Tensor, 80_000, 80_000)),
    dict(a=Call(bytearray, 25_000_000_000)),
])
def test_no_file_asks_for_memory_that_it_does_not_fill(tmp_path, content,
                                                       legacy):
    path = write(tmp_path / 'c.pth', content, legacy=legacy)
    with pytest.raises(ValueError, match='c.pth.*(bytes|elements|memory)'):
        read_checkpoint(path)


def test_flipped_bits_are_found(path):
    """PyTorch reads no checksum."""
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith('data/0'))
        content = archive.read(name)
    place = whole.index(content) + 7
    whole[place] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match='Bad CRC-32.*data/0'):
        read_checkpoint(path)


def test_every_truncation_is_found(path):
    whole = path.read_bytes()
    for size in (*range(0, len(whole), 97), len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match='damaged') as caught:
            read_checkpoint(path)
        assert '\n' not in str(caught.value)


def test_any_changed_byte_is_found_or_harmless(path):
    whole = path.read_bytes()
    for place in range(0, len(whole), 53):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) +
                         whole[place + 1:])
        try:
            read = read_checkpoint(path)
        except ValueError:
            continue
        assert torch.equal(read['a'], torch.arange(100.))
        assert torch.equal(read['b'], torch.ones(3))


def test_archives_that_torch_never_writes(tmp_path):
    content = dict(a=Tensor(10, (10, )))
    path = write(tmp_path / 'c.pth', content, compressed=True)
    with pytest.raises(ValueError, match='compressed'):
        read_checkpoint(path)
    write(path, content)
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('c/DATA/0', bytes(40))
    with pytest.raises(ValueError, match='same name'):
        read_checkpoint(path)
    path.write_bytes(b'PK\x03\x04' + write(path, content).read_bytes())
    with pytest.raises(ValueError, match='begins'):
        read_checkpoint(path)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('c/text', 'text')
    with pytest.raises(ValueError, match='not written by torch.save'):
        read_checkpoint(path)


@pytest.mark.parametrize('value, message', [
    (torch.tensor([1., float('nan')]), "'w' holds NaN or infinite"),
    (torch.tensor([1., float('-inf')]).half(), "'w' holds NaN or infinite"),
    (torch.eye(3).to_sparse(), "'w' is sparse"),
    (torch.eye(3).to_sparse_csr(), "'w' is sparse"),
    (torch.quantize_per_tensor(torch.ones(2), 1., 0,
                               torch.qint8), "'w' is quantised"),
    (torch.ones(2, device='meta'), "'w' is on the meta device"),
    (torch.ones(2, dtype=torch.complex64), "'w' holds complex"),
    (torch.ones(2).to(torch.float8_e4m3fn), "'w' is float8_e4m3fn"),
    (torch.ones(1).expand(1000,
                          1000), r"'w' has 1,000,000 elements of which .* 1$"),
    (3, "'w': int"),
    ({}, "'w': dict"),
])
def test_damaged_weights_are_named(value, message):
    with pytest.raises(ValueError, match=message):
        check_weights({
            'ok': torch.ones(2),
            'module.ok2': torch.ones(1)
        } | {'w': value})


def test_good_weights_lose_the_prefix_of_distributed_training():
    weights = {'module.a': torch.ones(2), 'b': torch.tensor(3)}
    assert list(check_weights(weights)) == ['a', 'b']
    tied = torch.ones(4)
    check_weights(dict(a=tied, b=tied, c=tied[:2]))
    with pytest.raises(ValueError, match='got 1: Tensor'):
        check_weights({1: tied})
    with pytest.raises(ValueError, match='share 16 bytes'):
        check_weights({str(i): tied for i in range(9)})


@pytest.mark.parametrize('given, own, fault', [
    (torch.float16, torch.float32, None),
    (torch.bfloat16, torch.float32, None),
    (torch.float64, torch.float32, None),
    (torch.int32, torch.int64, None),
    (torch.bool, torch.float32, 'is bool instead of float32'),
    (torch.int64, torch.float32, 'is int64 instead of float32'),
    (torch.float32, torch.int64, 'is float32 instead of int64'),
])
def test_other_precisions_are_converted(given, own, fault):
    value = torch.ones(2, dtype=given)
    assert dtype_fault(value, torch.ones(2, dtype=own)) == fault


def test_numbers_beyond_the_precision_of_the_network():
    large = torch.tensor([1e300], dtype=torch.float64)
    assert 'beyond' in dtype_fault(large, torch.ones(1))
    assert dtype_fault(large, large) is None


def test_saved_whole_or_not_at_all(path, monkeypatch):
    atomic_save(dict(a=torch.ones(2)), path)
    assert torch.equal(read_checkpoint(path)['a'], torch.ones(2))

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='c.pth.*No space left') as caught:
        atomic_save(dict(a=torch.zeros(2)), path)
    assert caught.value.errno == errno.ENOSPC
    assert torch.equal(read_checkpoint(path)['a'], torch.ones(2))
    assert [p.name for p in path.parent.iterdir()] == ['c.pth']


def test_no_published_file_is_believed_to_be_huge():
    """Names and shapes cost nothing, and tell of a network of terabytes."""
    names = [
        'latent', 'early_classifier3.weight', 'cnn_stem.0.weight',
        'self_att1.0.mlp.fc1.weight', 'cnn_body_stage4.0.conv1.weight'
    ]
    published = {name: torch.ones(8, 8) for name in names}
    published[names[-1]] = torch.empty(10**7, 0, 3, 3)
    with pytest.raises(ValueError, match='do not fit the variant'):
        load_official(published)
    published[names[0]] = torch.tensor(3.)
    with pytest.raises(ValueError, match='shapes that no variant has'):
        load_official(published)


def test_published_weights_in_half_precision():
    net = DynPerceiver('resnet18', width=0.25, num_latents=16, num_classes=3)
    published = publish(net.state_dict(), 'resnet')
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in published.items()
    }
    with pytest.warns(UserWarning, match='from float16 to float32'):
        latents = load_official(half).trunk.latents
    assert latents.dtype == torch.float32
    assert torch.equal(latents, published['latent'].half().float())
    half['latent'] = published['latent'] > 0
    with pytest.raises(ValueError, match='latent is bool instead of float32'):
        load_official(half)
