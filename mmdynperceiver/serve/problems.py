# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a request can be refused for: a status of HTTP and a message."""
from dataclasses import dataclass

__all__ = ['Limits', 'Problem', 'say']


class Problem(Exception):
    """A request that is not answered.

    Args:
        status (int): The status of HTTP.
        message (str): What is wrong, and what to do, in one line.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Limits:
    """What a request may be.

    Args:
        body_bytes (int): Most bytes of its body. Defaults to 32 MiB.
        images (int): Most images. Defaults to 32.
        pixels (int): Most pixels of an image, before it is decoded. Defaults
            to 50 million.
        body_seconds (float): For its body to arrive. Defaults to 10.
        request_seconds (float): For its answer, from then on. Defaults to 30.

    Raises:
        ValueError: If one is not positive.
    """

    body_bytes: int = 1 << 25
    images: int = 32
    pixels: int = 50_000_000
    body_seconds: float = 10.
    request_seconds: float = 30.

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f'the limit {name} must be positive, got '
                                 f'{value}')


def say(number: int, name: str) -> str:
    """What to call an image in messages."""
    return f'image {number}{f" ({name!r})" if name else ""}'
