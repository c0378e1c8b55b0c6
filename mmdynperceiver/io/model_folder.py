# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A model as a folder: what it is in config.json, weights in safetensors.

Such folders are saved, shared on the Hub of Hugging Face, and loaded from
there or from a disk. There is no code in them.
"""
import json
import os
from typing import Any, Dict, Mapping, Optional, Tuple, Union

from torch import Tensor

from ..version import __version__
from .atomic import atomic_folder, write_text
from .checksums import content_sha256, file_sha256
from .describe import one_line
from .released import released_folder
from .safetensors_file import (import_optional, read_safetensors,
                               save_safetensors)

__all__ = [
    'CARD', 'CONFIG', 'FORMAT', 'WEIGHTS', 'find_folder', 'read_config',
    'read_folder', 'save_folder'
]

CONFIG, WEIGHTS, CARD = 'config.json', 'model.safetensors', 'README.md'
# Raised when folders can no longer be read by an older version.
FORMAT = 1
Path = Union[str, os.PathLike]


def save_folder(folder: Path, content: Mapping[str, Any],
                weights: Mapping[str, Tensor], card: str) -> None:
    """Write a folder, whole or not at all.

    Args:
        folder (str | PathLike): New or empty; the one above it must exist.
        content (Mapping): What is said of the model, of what JSON holds.
        weights (Mapping): Its state dict.
        card (str): The text of its README.md.

    Raises:
        FileExistsError: If there is something at this path already.
        ImportError: If safetensors is not installed.
        OSError: If it cannot be written.
    """
    with atomic_folder(folder) as new:
        path = os.path.join(new, WEIGHTS)
        save_safetensors(weights, path)
        whole = dict(
            format=FORMAT,
            mmdynperceiver=__version__,
            **content,
            weights_sha256=file_sha256(path))
        # As it will be read: tuples are lists.
        whole = json.loads(json.dumps(whole))
        whole['config_sha256'] = content_sha256(whole)
        write_text(
            os.path.join(new, CONFIG),
            json.dumps(whole, indent=2, sort_keys=True) + '\n')
        write_text(os.path.join(new, CARD), card)


def find_folder(name: Path,
                revision: Optional[str] = None,
                **options: Any) -> str:
    """A folder on this machine: the one of this name, or a copy of the
    repository of this name on the Hub, or of released weights.

    Args:
        name (str | PathLike): A folder, 'owner/repository', or a name that
            :func:`~mmdynperceiver.io.released.released_folder` knows.
        revision (str, optional): Of the repository. Defaults to None, the
            latest.
        **options: Of ``huggingface_hub.snapshot_download``, such as
            ``token``, ``cache_dir`` and ``local_files_only``.

    Raises:
        FileNotFoundError: If it is neither.
        ImportError: If huggingface_hub is needed and not installed.
        OSError: If the download fails; the next one goes on.
    """
    name = os.path.expanduser(os.fspath(name))
    if os.path.isdir(name):
        return name
    if os.path.basename(name) == name and revision is None:
        return released_folder(name)
    parts = name.split('/')
    if len(parts) != 2 or not all(part.strip('.') for part in parts):
        raise FileNotFoundError(
            f'there is no folder {name!r}, and a repository on the Hub is '
            f"named 'owner/repository'")
    hub = import_optional('huggingface_hub')
    try:
        return hub.snapshot_download(
            name,
            revision=revision,
            allow_patterns=[CONFIG, WEIGHTS, CARD],
            **options)
    except Exception as error:  # of the network, the Hub or the library
        raise OSError(
            f'{name!r} is no folder here, and could not be fetched from the '
            f'Hub ({type(error).__name__}: {one_line(error)}): run it again '
            f'to go on where it stopped, or give a folder') from error


def read_config(folder: Path) -> Dict[str, Any]:
    """Read what a folder says of its model.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it was changed, or is of another format.
    """
    folder = os.fspath(folder)
    path = os.path.join(folder, CONFIG)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f'{folder!r} is no saved model: it has no {CONFIG}')
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path!r} is not JSON: {one_line(error)}') from error
    known = isinstance(content, dict) and 'config_sha256' in content
    if not known:
        raise ValueError(f'{path!r} is not that of a model that '
                         f'mmdynperceiver saved')
    if content.get('format') != FORMAT:
        raise ValueError(
            f'{folder!r} was saved by mmdynperceiver '
            f'{content.get("mmdynperceiver")} in the format '
            f'{content.get("format")!r}, and version {__version__} reads '
            f'{FORMAT}: update mmdynperceiver, or save the model again')
    if content.pop('config_sha256') != content_sha256(content):
        raise ValueError(f'{path!r} was changed after it was saved: copy or '
                         f'save the folder again')
    return content


def read_folder(folder: Path) -> Tuple[Dict[str, Any], Dict[str, Tensor]]:
    """Read and check a folder: what it says of its model, and the weights.

    Raises:
        FileNotFoundError: If a file is missing.
        ImportError: If safetensors is not installed.
        ValueError: If a file was changed, cut short, or is of another format.
    """
    content = read_config(folder)
    path = os.path.join(folder, WEIGHTS)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{os.fspath(folder)!r} is incomplete: '
                                f'{WEIGHTS} is missing; copy it again')
    if file_sha256(path) != content.get('weights_sha256'):
        raise ValueError(f'{path!r} was cut short or changed after it was '
                         f'saved (its SHA-256 is another): copy it again')
    return content, read_safetensors(path)
