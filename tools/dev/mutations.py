# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Damage done to files: to bytes, to JSON and to state dicts."""
import copy
import json
import random
from typing import Any, Dict, List, Tuple

import torch

__all__ = ['damage_bytes', 'damage_json', 'damage_state', 'damage_text']

DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]

# What a program or a person might put in a JSON file by mistake or malice.
ODD_VALUES: Tuple[Any,
                  ...] = (None, True, False, 0, -1, 1, 2**31, 2**63, 10**40,
                          -0., .5, 1e308, float('nan'), float('inf'),
                          -float('inf'), '', ' ', '0.5', 'batch', '../x',
                          '/etc/passwd', '[red]x[/red]', '\x00', 'ä\u202e',
                          'x' * 5000, [], {}, [[]], [None], ['a', 1], {
                              'a': {}
                          }, [0.1, 0.2], DEEP)


def damage_bytes(rng: random.Random, data: bytes) -> bytes:
    """Change a few places of a file, and perhaps its length."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        where = rng.randrange(len(result) + 1)
        end = min(where + rng.choice((1, 1, 4, 64, 4096)), len(result))
        length = end - where
        kind = rng.randrange(7)
        if kind == 0 and length:
            result[where] ^= 1 << rng.randrange(8)
        elif kind == 4:
            result[where:where] = result[where:end]
        elif kind == 5:
            result[where:where] = rng.randbytes(rng.choice((1, 16)))
        elif kind == 6:
            del result[where:]
        else:
            result[where:end] = rng.choice(
                (b'', rng.randbytes(length), bytes(length), b'\xff' * length))
    return bytes(result)


def damage_json(rng: random.Random, content: Any) -> Any:
    """Change a few places of what a JSON file says."""
    content = json.loads(json.dumps(content))
    for _ in range(rng.choice((1, 1, 2, 5))):
        places = list(_places(content))
        if not places or rng.random() < .02:
            return _odd_value(rng)
        parent, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, dict):
            parent[rng.choice(('x', '', str(key) + ' '))] = parent.pop(key)
        elif kind == 2:
            _, other = rng.choice(places)
            source, name = rng.choice(places)
            parent[key] = json.loads(json.dumps(source[name])) \
                if name in source or isinstance(source, list) and \
                len(source) > name else other
        elif kind == 3 and isinstance(parent, list):
            parent.insert(key, _odd_value(rng))
        else:
            parent[key] = _odd_value(rng)
    return content


def _odd_value(rng: random.Random) -> Any:
    """One of ODD_VALUES, which later damage does not change."""
    return copy.deepcopy(rng.choice(ODD_VALUES))


def _places(node: Any) -> List[Tuple[Any, Any]]:
    """Each container in a JSON value, with each of its keys."""
    found = []
    stack = [node]
    while stack:
        node = stack.pop()
        items = node.items() if isinstance(node, dict) else \
            enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            found.append((node, key))
            stack.append(value)
    return found


def damage_text(rng: random.Random, text: str) -> bytes:
    """Change a few lines of a list or a table."""
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 3))):
        where = rng.randrange(len(lines)) if lines else 0
        old = lines[where] if lines else ''
        new = rng.choice(
            ('', ' ', old + ' ' + old, old.replace(' ', '\t'),
             old.replace(',', ';'), old[:rng.randrange(len(old) + 1)],
             '\ufeff' + old, old + ' 9' * 50, old + ',nan', '"' + old,
             old.rpartition(' ')[0] + ' -1', 'x' * 200_000, '../' + old,
             old.rpartition(' ')[0] + ' ' + '9' * 5000))
        if rng.random() < .3:
            lines.insert(where, new)
        elif lines:
            lines[where] = new
    data = rng.choice(('\n', '\r\n')).join(lines).encode()
    return damage_bytes(rng, data) if rng.random() < .3 else data


def damage_state(rng: random.Random, state: Dict[str, Any]) -> Dict[str, Any]:
    """Change entries of a state dict."""
    state = dict(state)
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(sorted(map(str, state)))
        value = state.pop(name, None)
        kind = rng.choice((*ODD_TENSORS, None, None))
        if not isinstance(value, torch.Tensor):
            continue
        if kind is not None:
            state[name] = kind(value, rng)
        elif rng.random() < .5:
            state[name + 'x'] = value
    return state


def _with_odd_number(value: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """A copy that is not finite, or nearly so."""
    value = value.clone()
    if value.is_floating_point() and value.numel():
        value.view(-1)[rng.randrange(value.numel())] = rng.choice(
            (float('nan'), float('inf'), 1e38))
    return value


# What may stand in the place of a tensor.
ODD_TENSORS: Tuple[Any, ...] = (
    lambda v, rng: v.flatten()[:-1] if v.numel() > 1 else v[None],
    lambda v, rng: v.unsqueeze(0),
    lambda v, rng: v.to(
        rng.choice((torch.int64, torch.bool, torch.complex64, torch.float16,
                    torch.float64))),
    lambda v, rng: v.to('meta'),
    lambda v, rng: v.to_sparse() if v.ndim else v,
    lambda v, rng: rng.choice((None, 3, 'x', [1., 2.], {})),
    lambda v, rng: v.new_zeros(1).expand(*v.shape) if v.ndim else v,
    lambda v, rng: v.new_empty(0),
    _with_odd_number,
    _with_odd_number,
)
