# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The config that a checkpoint of a training carries, read as data."""
import ast
from typing import Any, Dict, Mapping

from mmengine.config import Config

from ..errors import InputError
from .cfg_options import literal_value

__all__ = ['config_of_checkpoint']


def config_of_checkpoint(content: Mapping[str, Any], path: str) -> Config:
    """Read the config in ``meta['cfg']`` of a checkpoint; no code of it runs.

    Args:
        content (Mapping): What the checkpoint holds.
        path (str): Its name, for messages.

    Raises:
        InputError: If it carries none, or one that is more than data.
    """
    meta = content.get('meta')
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        raise InputError(f'{path!r} carries no config: name the one that it '
                         f'was trained with by --config')
    settings: Dict[str, Any] = {}
    try:
        for line in ast.parse(text).body:
            if not isinstance(line, ast.Assign) or not isinstance(
                    line.targets[0], ast.Name):
                raise ValueError(f'{ast.unparse(line)[:60]!r} is no setting')
            settings[line.targets[0].id] = literal_value(line.value)
        return Config(settings)
    except (SyntaxError, ValueError, TypeError, RecursionError,
            MemoryError) as error:
        raise InputError(
            f'the config in {path!r} is no plain data ({error}): name the one '
            f'that it was trained with by --config') from error
