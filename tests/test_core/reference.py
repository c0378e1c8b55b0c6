# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Reference variants: weights and images that follow from a rule."""
import json
import zlib
from pathlib import Path

import numpy as np
import torch

from mmdynperceiver.core.official import _published_names

DATA = Path(__file__).parents[1] / 'data' / 'parity'
VARIANTS = sorted(path.stem for path in DATA.glob('*.json'))


def rule(name, shape):
    """Value of one entry of a reference state dict."""
    if name.endswith('num_batches_tracked'):
        return torch.tensor(0)
    seed = zlib.crc32(name.encode()) & 0xffffffff
    a = np.random.RandomState(seed).standard_normal(shape)
    if name.endswith('running_var'):
        a = 0.75 + 0.5 * np.abs(a)
    elif name.endswith('running_mean'):
        a = 0.1 * a
    elif name.endswith('bias') and 'relative_position' not in name:
        a = 0.1 * a
    elif 'relative_position_bias' in name:
        a = 0.5 * a
    elif name != 'latent':
        a = 1 + 0.1 * a if len(shape) == 1 else a / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(a, dtype=np.float32))


def load(variant):
    """Facts, published state dict and logits of a reference variant."""
    facts = json.loads((DATA / f'{variant}.json').read_text())
    state_dict = {
        name: rule(name, shape)
        for name, shape in facts['state_dict_shapes'].items()
    }
    with np.load(DATA / f'{variant}.npz') as file:
        logits = [torch.from_numpy(file[f'exit{k}']) for k in range(1, 5)]
    return facts, state_dict, logits


def images():
    """The reference input (2, 3, 224, 224)."""
    rng = np.random.RandomState(2023)
    return torch.from_numpy(
        rng.standard_normal((2, 3, 224, 224)).astype(np.float32))


def publish(state_dict, family):
    """The entries of a network's state dict under published names."""
    published = {}
    for name, value in state_dict.items():
        if not name.endswith('_extra_state'):
            names = _published_names(name, family)
            published.update(
                zip(names,
                    value.chunk(len(names)) if len(names) > 1 else [value]))
    return published


def family_of(arch):
    """The family whose names a published file uses."""
    return arch.split('-')[0].rstrip('0123456789') \
        if not arch.startswith('mobile') else 'mobilenetv3'
