# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From the body of a request to the images in it."""
import asyncio
from typing import AsyncIterator, List, Tuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from .problems import Limits, Problem, say

__all__ = ['read_images']

# Names and bytes.
Files = List[Tuple[str, bytes]]

RAW = ('image/', 'application/octet-stream')
FORM = 'multipart/form-data'


async def read_images(request: Request, limits: Limits) -> Files:
    """The images of a request.

    Args:
        request (Request): Its body is one image, or a form with files.
        limits (Limits): What it may be.

    Returns:
        list[tuple]: The name of each, and its bytes.

    Raises:
        Problem: 400, 408, 413 or 415.
    """
    kind = request.headers.get('content-type', '').lower()
    if not kind.startswith((*RAW, FORM)):
        raise Problem(
            415, f'send images as {FORM}, or one as the body with the '
            f'Content-Type image/jpeg, image/png or '
            f'application/octet-stream; got {kind or "none"!r}')
    try:
        body = await asyncio.wait_for(
            _read(request, limits.body_bytes), limits.body_seconds)
    except asyncio.TimeoutError:
        length = request.headers.get('content-length', '')
        if length.isdecimal() and int(length) > limits.body_bytes:
            raise _too_large(int(length), limits.body_bytes) from None
        raise Problem(
            408, f'the body did not arrive within '
            f'{limits.body_seconds:g} seconds') from None
    if kind.startswith(RAW):
        files = [('', body)]
    else:
        files = await _read_form(request, body, limits.images)
    if not files:
        raise Problem(
            400, 'the form has no files in it: send each image as '
            'a file, such as curl -F images=@cat.jpg')
    for number, (name, content) in enumerate(files):
        if not content:
            raise Problem(400, f'{say(number, name)} is empty')
    return files


async def _read(request: Request, most: int) -> bytes:
    """The whole body; one that is too large is read, but not kept, so that
    who sends it gets to know."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        parts.append(part)
        if size > most:
            parts.clear()
    if size > most:
        raise _too_large(size, most)
    return b''.join(parts)


def _too_large(size: int, most: int) -> Problem:
    """A body has too many bytes."""
    return Problem(
        413, f'the body has {size:,} bytes, and {most:,} are the most: send '
        f'smaller images, or fewer at a time')


async def _read_form(request: Request, body: bytes, most: int) -> Files:
    """The files of a form."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        parser = MultiPartParser(
            request.headers, stream(), max_files=most, max_fields=most)
        form = await parser.parse()
    except MultiPartException as error:
        if 'Too many' in error.message:
            raise Problem(
                413, f'the form has more than {most} images: send '
                f'fewer at a time') from error
        raise Problem(400, f'the form cannot be read: {error.message}') \
            from error
    except (KeyError, ValueError) as error:  # no boundary
        raise Problem(400, f'the form cannot be read: {error}') from error
    try:
        return [(file.filename or '', await file.read())
                for _, file in form.multi_items()
                if isinstance(file, UploadFile)]
    finally:
        await form.close()
