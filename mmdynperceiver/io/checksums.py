# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Checksums of files and of what a JSON file says; plain Python."""
import hashlib
import json
import os
from typing import Any, Mapping, Union

__all__ = ['content_sha256', 'file_sha256']


def file_sha256(path: Union[str, os.PathLike]) -> str:
    """Checksum of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_sha256(content: Mapping[str, Any]) -> str:
    """Checksum of what a JSON file says, however it is laid out."""
    text = json.dumps(content, sort_keys=True, default=float)
    return hashlib.sha256(text.encode()).hexdigest()
