# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Short names for weights, data and settings that change when they do."""
import hashlib
import json
import os
from typing import Any, Iterable, Mapping, Tuple

import torch
from torch import Tensor

__all__ = ['data_fingerprint', 'settings_fingerprint', 'weights_fingerprint']

# The exit policy travels in the state dict, but changes no logit.
POLICY_STATE = 'policy._extra_state'


def weights_fingerprint(weights: Mapping[str, Any]) -> str:
    """Fingerprint of a state dict.

    The thresholds that it carries do not count: a copy of a checkpoint that
    has been given an operating point is still the same network.

    Args:
        weights (Mapping[str, Any]): Names to tensors.

    Returns:
        str: SHA-256 over names, types, shapes and values.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        if name.endswith(POLICY_STATE):
            continue
        value = weights[name]
        if not isinstance(value, Tensor):
            digest.update(f'{name}={value!r};'.encode())
            continue
        digest.update(f'{name}:{value.dtype}:{tuple(value.shape)};'.encode())
        raw = value.detach().cpu().contiguous().reshape(-1)
        digest.update(raw.view(torch.uint8).numpy())
    return digest.hexdigest()


def data_fingerprint(root: str, samples: Iterable[Tuple[str, int]]) -> str:
    """Fingerprint of labelled images, wherever their folder stands.

    Args:
        root (str): Folder from which paths count.
        samples (Iterable[tuple[str, int]]): Path and label of each image, in
            order; a path may also be any other name of the image.

    Returns:
        str: SHA-256 over relative paths, sizes of the files and labels.
    """
    digest = hashlib.sha256()
    for path, label in samples:
        try:
            size = os.path.getsize(path)
        except OSError:  # not a local file
            size = -1
        name = os.path.relpath(path, root) if size >= 0 and root else path
        digest.update(f'{name}\0{size}\0{label}\n'.encode())
    return digest.hexdigest()


def settings_fingerprint(settings: Any) -> str:
    """Fingerprint of a part of a config.

    Args:
        settings (Any): Nested dicts and lists.

    Returns:
        str: SHA-256; the order of keys does not count.
    """
    text = json.dumps(settings, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()
