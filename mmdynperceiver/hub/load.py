# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Load whatever a folder holds."""
import os
from typing import Any, Optional, Union

from torch import nn

from ..io.model_folder import find_folder, read_folder
from .classifier import ImageClassifier

__all__ = ['from_pretrained']


def from_pretrained(name: Union[str, os.PathLike],
                    operating_point: Optional[int] = None,
                    revision: Optional[str] = None,
                    **options: Any) -> nn.Module:
    """Load a saved model, in eval mode.

    Args:
        name (str | PathLike): A folder, or 'owner/repository' on the Hub.
        operating_point, revision, **options: As of
            :meth:`ImageClassifier.from_pretrained`.

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
