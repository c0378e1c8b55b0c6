# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Files are written whole or not at all."""
import json
import os
import tempfile
from typing import Any, Union

__all__ = ['write_json', 'write_text']


def write_text(path: Union[str, os.PathLike], text: str) -> None:
    """Write a text file, whole or not at all.

    Args:
        path (str | PathLike): The file; its folder must exist. What was
            there before stays until the new content is complete.
        text (str): Its content.

    Raises:
        OSError: If it cannot be written.
    """
    path = os.fspath(path)
    handle, temporary = tempfile.mkstemp(
        dir=os.path.dirname(path) or '.', suffix='.tmp')
    try:
        with os.fdopen(handle, 'w', encoding='utf-8') as file:
            file.write(text)
        # mkstemp makes private files; give what open() would have given.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: Union[str, os.PathLike], content: Any) -> None:
    """Write a JSON file, whole or not at all.

    Args:
        path (str | PathLike): The file; its folder must exist.
        content (Any): What JSON can hold; other numbers become floats.
    """
    write_text(path, json.dumps(content, indent=2, default=float) + '\n')
