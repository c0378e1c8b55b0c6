# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Short names for weights, data and settings that change when they do."""
import hashlib
import json
import os
from typing import Any, Iterable, Mapping, Optional, Sequence, Union

import torch
from torch import Tensor

from .content_digests import content_digests

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


def data_fingerprint(root: str,
                     samples: Iterable[Sequence[Any]],
                     memory: Optional[Union[str, os.PathLike]] = None,
                     description: str = 'reading') -> str:
    """Fingerprint of labelled images, wherever their folder stands.

    Args:
        root (str): Folder from which paths count.
        samples (Iterable[Sequence]): Path and label of each image, in order,
            and what else counts, as text. A path may be that of a folder of
            frames, or any other name of the image.
        memory (str | PathLike, optional): Folder that remembers what is in
            files, see :func:`content_digests`. Defaults to None.
        description (str): Stands beside the progress bar. Defaults to
            'reading'.

    Returns:
        str: SHA-256 over relative paths, contents of the files and labels.
    """
    samples = list(samples)
    paths = [sample[0] for sample in samples]
    if memory is not None:
        # One for each list of images, so that what is gone is forgotten.
        name = settings_fingerprint(paths)[:16]
        memory = os.path.join(memory, f'{name}.json')
    digest = hashlib.sha256()
    contents = content_digests(paths, memory, description)
    for (path, *others), content in zip(samples, contents):
        name = os.path.relpath(path, root) if content and root else path
        columns = (name, content, *others)
        text = '\0'.join(map(str, columns)) + '\n'
        digest.update(text.encode('utf-8', 'surrogateescape'))
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
