# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What all kinds of files have in common, and what counts as a fault."""
import json
import os
from typing import Any, Callable

__all__ = ['CLASSES', 'Fault', 'Files', 'as_json', 'attempt', 'check']

CLASSES = ('ant', 'bee', 'cow')


class Fault(Exception):
    """Something was neither taken whole nor refused well."""


class Files:
    """The files of a kind in a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, *names: str) -> str:
        """The path of a file, the folder of which is made."""
        path = os.path.join(self.folder, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def write(self, name: str, content: Any) -> str:
        """Write a file of bytes, or of JSON; returns its path."""
        with open(self.path(name), 'wb') as file:
            file.write(
                content if isinstance(content, bytes) else as_json(content))
        return file.name


def as_json(content: Any) -> bytes:
    """What a JSON file of this content holds, however deep it is."""
    try:
        return json.dumps(content).encode()
    except RecursionError:
        return b'[' * 5000 + b']' * 5000


def attempt(function: Callable[..., Any], *args: Any) -> Any:
    """Call what reads a file.

    Returns:
        Any: What it returned; None if it refused the file as it should, by
        an error that users can understand.

    Raises:
        Fault: If it failed in another way.
    """
    try:
        return function(*args)
    except (ValueError, OSError) as error:
        text = str(error).strip()
        if '\n' in text or not text:
            raise Fault(f'the message is not one line: {text!r}') from error
        return None
    except Exception as error:
        raise Fault(f'{type(error).__name__}: {error}') from error


def check(right: Any, text: str) -> None:
    """Demand something of what was taken."""
    if not right:
        raise Fault(text)
