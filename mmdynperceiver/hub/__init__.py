# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Models as folders, on a disk or on the Hub of Hugging Face.

Needs the extra ``hub``. Models of the hosts are in
:mod:`mmdynperceiver.hub.host_models`, which needs mmengine and the host.
"""
from .classifier import ImageClassifier
from .load import from_pretrained

__all__ = ['ImageClassifier', 'from_pretrained']
