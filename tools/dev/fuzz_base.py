# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What all kinds of files have in common, and what counts as a fault."""
import json
import os
import random
from typing import Any, Callable

__all__ = [
    'CLASSES', 'NETWORK', 'Fault', 'Kind', 'as_json', 'attempt', 'check'
]

CLASSES = ('ant', 'bee', 'cow')
NETWORK = dict(
    arch='resnet18',
    width=0.125,
    num_latents=8,
    depth_factor=(0, 0, 1 / 9, 1 / 3))


class Fault(Exception):
    """Something was neither taken whole nor refused well."""


def as_json(content: Any) -> bytes:
    """What a JSON file of this content holds, however deep it is."""
    try:
        return json.dumps(content).encode()
    except RecursionError:
        return b'[' * 5000 + b']' * 5000


def attempt(function: Callable[[], Any]) -> Any:
    """Call what reads a file.

    Args:
        function (Callable): Without arguments.

    Returns:
        Any: What it returned; None if it refused the file as it should, by
        an error that users can understand.

    Raises:
        Fault: If it failed in another way.
    """
    try:
        return function()
    except (ValueError, OSError) as error:
        text = str(error)
        if '\n' in text.strip() or not text.strip():
            raise Fault(f'the message is not one line: {text!r}') from error
        return None
    except Exception as error:
        raise Fault(f'{type(error).__name__}: {error}') from error


def check(right: bool, text: str) -> None:
    """Demand something of what was taken."""
    if not right:
        raise Fault(text)


class Kind:
    """A kind of file.

    Args:
        folder (str): A folder of its own, which is made.
    """

    def __init__(self, folder: str) -> None:
        os.makedirs(folder)
        self.folder = folder
        self.prepare()

    def prepare(self) -> None:
        """Make what all cases have in common."""

    def run(self, rng: random.Random) -> None:
        """Run one case."""
        raise NotImplementedError

    def write(self, name: str, content: Any) -> str:
        """Write a file of bytes, or of JSON; returns its path."""
        path = os.path.join(self.folder, name)
        if not isinstance(content, bytes):
            content = as_json(content)
        with open(path, 'wb') as file:
            file.write(content)
        return path
