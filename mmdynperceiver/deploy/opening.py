# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Open an exported folder, whatever it holds."""
import os
from typing import Any, Union

from .detection import Detector
from .exported import ExportedNetwork
from .manifest import Manifest
from .runner import Runner

__all__ = ['open_network']


def open_network(folder: Union[str, os.PathLike], *args: Any,
                 **kwargs: Any) -> ExportedNetwork:
    """Open a classifier or a detector; arguments and errors are those of
    :meth:`mmdynperceiver.deploy.Runner.load`.

    Returns:
        Runner | Detector: Ready to be called.
    """
    detects = Manifest.read(folder).detection is not None
    kind: Any = Detector if detects else Runner
    return kind.load(folder, *args, **kwargs)
