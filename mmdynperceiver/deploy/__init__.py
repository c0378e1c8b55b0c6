# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Exported networks: early exit in ONNX Runtime and OpenVINO.

Running needs NumPy, one of the runtimes, and the library that reads the
images (Pillow or OpenCV): neither torch nor an OpenMMLab package. Writing a
folder (``tools/export.py``, :mod:`mmdynperceiver.deploy.export`) needs torch
and onnx.
"""
from .detection import Detector
from .manifest import Manifest
from .policy import Policy
from .preprocessing import Preprocessing
from .runner import Outcome, Result, Runner

__all__ = [
    'Detector', 'Manifest', 'Outcome', 'Policy', 'Preprocessing', 'Result',
    'Runner'
]
