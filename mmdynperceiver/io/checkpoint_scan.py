# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a checkpoint file declares, compared with what it holds.

``torch.load`` believes a file: it reads no checksum, and takes memory for
whatever sizes are declared. Here a file is looked through first, and nothing
in it is run or built.
"""
import io
import os
import pickle
import zipfile
from typing import Any, BinaryIO, Dict, List, Optional, Union

__all__ = ['check_file']

# Begins what torch.save writes since 1.6, and what it wrote before.
_ZIP_MAGIC = b'PK\x03\x04'
_LEGACY_MAGIC = 0x1950a86a20f9469cfc6c
# These make arrays; a file that torch.save wrote asks them for empty ones.
_MAKERS = ('builtins.bytearray', '__builtin__.bytearray', 'torch.Tensor',
           'torch._tensor.Tensor', 'numpy.ndarray',
           'numpy.core.multiarray._reconstruct',
           'numpy._core.multiarray._reconstruct')
# Bytes of one element, by the names of storages.
_ELEMENT_SIZES = {
    name: size
    for size, names in ((16, 'ComplexDouble'), (8, 'ComplexFloat Double Long'),
                        (4, 'Float Int QInt32'), (2, 'BFloat16 Half Short'),
                        (1, 'Bool Byte Char QInt8 QUInt2x4 QUInt4x2 QUInt8 '
                         'Untyped'))
    for name in names.split()
}
_BLOCK = 1 << 20


def check_file(path: Union[str, os.PathLike]) -> None:
    """Refuse a checkpoint file that is damaged or claims more than it holds.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no file of ``torch.save``, a checksum differs,
            or a tensor is larger than its data.
    """
    with open(path, 'rb') as file:
        start = file.read(len(_ZIP_MAGIC))
        file.seek(0)
        try:
            (_check_zip if start == _ZIP_MAGIC else _check_legacy)(file)
        except (OSError, ValueError):
            raise
        except zipfile.BadZipFile as error:
            raise ValueError(_reason(error)) from error
        except Exception as error:  # whatever a damaged pickle brings about
            raise ValueError(f'damaged: {_reason(error)}') from error


def _reason(error: Exception) -> str:
    """The first line of a message, or else the kind of error."""
    return str(error).partition('\n')[0] or type(error).__name__


def _check_zip(file: BinaryIO) -> None:
    """Check the records of a file, and what its pickle says of them."""
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        _check_records(records, os.fstat(file.fileno()).st_size)
        for record in records:
            with archive.open(record) as content:
                while content.read(_BLOCK):  # the end compares the checksum
                    pass
        folder = records[0].filename.partition('/')[0]
        sizes = {record.filename: record.file_size for record in records}
        if f'{folder}/data.pkl' not in sizes:
            raise ValueError('not written by torch.save: no data.pkl in it')

        def check(key: Any, needed: int) -> None:
            found = sizes.get(f'{folder}/data/{key}')
            if found is None:
                raise ValueError(f'the data {key!r} are missing')
            if needed > found:
                raise ValueError(f'the data {key!r} must have {needed:,} '
                                 f'bytes and have {found:,}')

        _Scan(io.BytesIO(archive.read(f'{folder}/data.pkl')), check).load()


def _check_records(records: List[zipfile.ZipInfo], size: int) -> None:
    """Check that records are plain, and that the file has room for them."""
    if not records or min(r.header_offset for r in records) != 0:
        # PyTorch counts from the start of the file, others from the archive.
        raise ValueError('no archive begins where the file begins')
    # PyTorch does not tell upper from lower case.
    if len({record.filename.lower() for record in records}) < len(records):
        raise ValueError('two records have the same name')
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or \
                record.compress_size != record.file_size:
            raise ValueError(f'the record {record.filename!r} is compressed, '
                             f'which torch.save never does')
    if sum(record.file_size for record in records) > size:
        raise ValueError('its records are larger than the file: truncated')


def _check_legacy(file: BinaryIO) -> None:
    """Check a file in the format before PyTorch 1.6, which has no sums."""
    size = os.fstat(file.fileno()).st_size
    storages: Dict[Any, int] = {}

    def check(key: Any, needed: int) -> None:
        storages[key] = max(needed, storages.get(key, 0))
        if sum(storages.values()) > size:
            raise ValueError(f'its data must have more than the {size:,} '
                             f'bytes of the file: truncated')

    if _Scan(file, check).load() != _LEGACY_MAGIC:
        raise ValueError('not written by torch.save')
    for _ in range(3):  # the protocol, the machine, the content
        _Scan(file, check).load()


class _Inert:
    """Stands for anything a pickle names; calling it does nothing."""

    name = ''
    size: Optional[int] = None

    def __new__(cls, *args: Any, **kwargs: Any) -> '_Inert':
        return object.__new__(_Inert)

    def __init__(self, name: str = '', size: Optional[int] = None) -> None:
        self.name = name
        # Number of elements, for a storage.
        self.size = size

    def __call__(self, *args: Any, **kwargs: Any) -> '_Inert':
        """Refuse calls that would take memory the file does not hold."""
        if self.name in _MAKERS and _asks_for_any(args):
            raise ValueError(f'asks {self.name} for memory')
        if self.name.startswith('torch._utils._rebuild') and len(args) > 3:
            _check_extent(*args[:4])
        return _Inert()

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Take an item of a list."""

    extend = add = append


def _asks_for_any(args: Any) -> bool:
    """Whether there is a number among arguments, their tuples and lists."""
    return any(
        _asks_for_any(arg) if isinstance(arg, (
            tuple, list)) else isinstance(arg, int) and arg != 0
        for arg in args)


def _check_extent(storage: Any, offset: Any, shape: Any, strides: Any) -> None:
    """Refuse a tensor that reaches beyond its storage."""
    if not isinstance(storage, _Inert) or storage.size is None or \
            not isinstance(shape, tuple) or not isinstance(strides, tuple):
        return
    numbers = [offset, *shape, *strides]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f'a tensor of shape {shape} and strides {strides}')
    last = offset + sum(
        (length - 1) * stride for length, stride in zip(shape, strides))
    if 0 not in shape and last >= storage.size:
        raise ValueError(f'a tensor of shape {shape} has {storage.size:,} '
                         f'elements of data')


# The slow one, in Python: that in C takes memory for sizes that are only
# declared.
class _Scan(pickle._Unpickler):  # type: ignore[name-defined]
    """Read a pickle with all that it names inert.

    ``check`` is called with the key and the bytes of each storage.
    """

    dispatch = {
        code: function
        for code, function in pickle._Unpickler.dispatch.items(  # type: ignore
        ) if code not in (pickle.BYTEARRAY8[0], pickle.EXT1[0], pickle.EXT2[0],
                          pickle.EXT4[0])
    }

    def __init__(self, file: BinaryIO, check: Any) -> None:
        super().__init__(file, encoding='utf-8')
        self._check = check

    def find_class(self, module: str, name: str) -> _Inert:
        """Name it, and import nothing."""
        return _Inert(f'{module}.{name}')

    def persistent_load(self, identity: Any) -> _Inert:
        """Check what is said of a storage."""
        kind, storage, key, _, size = identity[:5]
        if kind != 'storage' or type(size) is not int or size < 0:
            raise ValueError(f'refers to {kind!r} of size {size!r}')
        name = storage.name.rpartition('.')[2].removesuffix('Storage')
        self._check(key, size * _ELEMENT_SIZES[name])
        return _Inert(storage.name, size)
