# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Open an exported folder, whatever it holds."""
import os
from typing import Any, Union

from .detection import Detector
from .exported import ExportedNetwork
from .manifest import Manifest
from .runner import Runner

__all__ = ['class_for', 'open_network']


def class_for(manifest: Manifest) -> Any:
    """The class that runs a folder of this manifest, with its ``load``."""
    return Runner if manifest.detection is None else Detector


def open_network(folder: Union[str, os.PathLike], *args: Any,
                 **kwargs: Any) -> ExportedNetwork:
    """Open a classifier or a detector; arguments and errors are those of
    :meth:`mmdynperceiver.deploy.Runner.load`.

    Returns:
        Runner | Detector: Ready to be called.
    """
    return class_for(Manifest.read(folder)).load(folder, *args, **kwargs)
