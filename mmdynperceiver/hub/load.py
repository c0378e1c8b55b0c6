# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Load whatever a folder holds."""
import os
from typing import Any, Optional, Union

from torch import nn

from ..io.describe import one_line
from ..io.model_folder import find_folder, read_config, read_folder
from ..io.safetensors_file import import_optional
from .classifier import ImageClassifier

__all__ = ['from_pretrained', 'push_folder']


def from_pretrained(name: Union[str, os.PathLike],
                    operating_point: Optional[int] = None,
                    revision: Optional[str] = None,
                    **options: Any) -> nn.Module:
    """Load a saved model, in eval mode.

    Args:
        name (str | PathLike): A folder, or 'owner/repository' on the Hub.
        operating_point (int, optional): Which of its operating points.
            Defaults to None, the one it was saved with.
        revision (str, optional): Of the repository. Defaults to None, the
            latest.
        **options: As of
            :func:`~mmdynperceiver.io.model_folder.find_folder`.

    Returns:
        nn.Module: An :class:`ImageClassifier`, or the model of a host.

    Raises:
        FileNotFoundError: If a file is missing.
        ImportError: If the host is not installed.
        OSError: If the download fails.
        ValueError: If a file was changed, is of another version, or does not
            fit.
    """
    folder = find_folder(name, revision, **options)
    content, weights = read_folder(folder)
    if content.get('kind') == 'network':
        return ImageClassifier.from_content(content, weights, folder,
                                            operating_point)
    from .host_models import build_host_model
    return build_host_model(content, weights, folder, operating_point)


def push_folder(folder: Union[str, os.PathLike],
                repository: str,
                private: Optional[bool] = None,
                token: Optional[str] = None) -> str:
    """Upload a saved folder of either kind to the Hub.

    Args:
        folder (str | PathLike): A saved folder.
        repository (str): 'owner/repository'; it is made if it is not there.
        private (bool, optional): Whether it is made for oneself. Defaults to
            None, as the owner's settings say.
        token (str, optional): Defaults to None, that of ``hf auth login``.

    Returns:
        str: The address of the commit.

    Raises:
        FileNotFoundError: If it is no saved folder.
        OSError: If it cannot be uploaded.
        ValueError: If it was changed after it was saved.
    """
    read_config(folder)
    api = import_optional('huggingface_hub').HfApi(token=token)
    try:
        made = api.create_repo(repository, private=private, exist_ok=True)
        return str(
            api.upload_folder(repo_id=made.repo_id, folder_path=str(folder)))
    except Exception as error:  # of the network, the Hub or the library
        raise OSError(
            f'{os.fspath(folder)!r} could not be pushed to {repository!r} '
            f'({type(error).__name__}: {one_line(error)})') from error
