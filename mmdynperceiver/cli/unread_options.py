# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Options of the command line that nothing reads."""
import difflib
import inspect
from typing import Any, Iterator, List, Mapping

from mmengine.config import Config
from mmengine.runner import Runner

__all__ = ['unread_options']

# What is read at the top level of a config, beside the runner's arguments.
OTHER_KEYS = ('activation_checkpointing', 'compile', 'custom_imports',
              'data_root', 'efficient_conv_bn_eval', 'find_unused_parameters',
              'model_wrapper_cfg', 'runner_type', 'tta_model', 'tta_pipeline')


def unread_options(config: Config, options: Mapping[str, Any]) -> List[str]:
    """Name the options that change nothing, and what was meant perhaps.

    At its top level a config may hold variables that only its own text
    reads, before the options come.

    Args:
        config (Config): The config with the options.
        options (Mapping[str, Any]): Keys with dots, and values.

    Returns:
        list[str]: A line for each.
    """
    known = {*inspect.signature(Runner.__init__).parameters, *OTHER_KEYS}
    lines = []
    for key in options:
        first, last = key.partition('.')[0], key.rpartition('.')[2]
        if first in known:
            continue
        meant = [
            path for path in _paths_to(dict(config.items()), last)
            if path.partition('.')[0] in known
        ] or difflib.get_close_matches(first, known, 1)
        remedy = f'; set {" or ".join(meant[:4])}' if meant else ''
        lines.append(f'--cfg-options {key} changes nothing: {first!r} is not '
                     f'read after the config itself{remedy}')
    return lines


def _paths_to(node: Any, name: str, path: str = '') -> Iterator[str]:
    """Where a key stands below the top level of a config."""
    if isinstance(node, dict):
        for key, child in node.items():
            if key == name and path:
                yield f'{path}{key}'
            yield from _paths_to(child, name, f'{path}{key}.')
