# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What something given is, in the words of messages.

Plain Python: neither torch nor NumPy nor Pillow is imported to ask.
"""
from typing import Any

__all__ = ['describe', 'is_kind', 'one_line']

_KINDS = dict(
    tensor='torch.Tensor', array='numpy.ndarray', pillow='PIL.Image.Image')


def is_kind(value: Any, kind: str) -> bool:
    """Whether it is a 'tensor', an 'array' of NumPy or a 'pillow' image."""
    return any(f'{base.__module__}.{base.__qualname__}' == _KINDS[kind]
               for base in type(value).__mro__)


def describe(value: Any) -> str:
    """Say what a value is: 'a NumPy array of uint8 (480, 640, 3)'."""
    if is_kind(value, 'tensor'):
        dtype = str(value.dtype).removeprefix('torch.')
        return f'a tensor of {dtype} {tuple(value.shape)}'
    if is_kind(value, 'array'):
        return f'a NumPy array of {value.dtype} {value.shape}'
    if is_kind(value, 'pillow'):
        width, height = value.size
        return f'a PIL image ({value.mode}, {width}x{height})'
    if isinstance(value, (list, tuple)):
        of = f', the first {describe(value[0])}' if value else ''
        return f'a {type(value).__name__} of {len(value)}{of}'
    if value is None:
        return 'None'
    name = type(value).__name__
    return f'{"an" if name[0] in "aeiouAEIOU" else "a"} {name}'


def one_line(error: BaseException) -> str:
    """The message of an error in one line, its type where it says nothing."""
    return ' '.join(str(error).split()) or type(error).__name__
