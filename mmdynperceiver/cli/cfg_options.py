# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""``--cfg-options``: their values, and those that change nothing."""
import ast
import difflib
import inspect
import re
from typing import Any, Iterator, List, Mapping

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

__all__ = ['literal_value', 'parse_value', 'unread_options']

# What is read at the top level of a config, beside the runner's arguments.
OTHER_KEYS = ('activation_checkpointing', 'compile', 'custom_imports',
              'data_root', 'efficient_conv_bn_eval', 'find_unused_parameters',
              'model_wrapper_cfg', 'runner_type', 'tta_model', 'tta_pipeline')


def parse_value(text: str) -> Any:
    """Read one value.

    Args:
        text (str): A number, a word, ``a,b``, ``[a,b]``, ``(a,b)``, or what a
            config would have: ``dict(type='A', b=[1, 2])``, ``{'a': 1}``.

    Raises:
        ValueError: If it is none of these.
    """
    try:
        # Elsewhere a brace is one of the text, as in 'epoch_{}.pth'.
        if re.match(r'\s*(dict\(|{|[(\[].*(dict\(|{))', text, re.DOTALL):
            return literal_value(ast.parse(text.strip(), mode='eval').body)
        return DictAction._parse_iterable(text)
    except (AssertionError, RecursionError) as error:
        raise ValueError(f'{text!r} is no number, word or list (quotes or '
                         f'brackets do not match)') from error
    except (SyntaxError, MemoryError, TypeError, ValueError) as error:
        raise ValueError(
            f'{text!r} is not a value that a config could have, such as '
            f"\"dict(type='A', b=[1, 2])\": {error}") from error


def literal_value(node: ast.expr) -> Any:
    """The value of a parsed literal, in which ``dict(a=1)`` may stand.

    Raises:
        TypeError, ValueError: If it is more than that.
    """
    return ast.literal_eval(_DictCalls().visit(node))


class _DictCalls(ast.NodeTransformer):
    """Writes ``dict(a=1)`` as ``{'a': 1}``."""

    def visit_Call(self, node: ast.Call) -> ast.Dict:
        """Replace a call of dict; no other is one of a value."""
        names = [word.arg for word in node.keywords]
        if ast.unparse(node.func) != 'dict' or node.args or None in names:
            raise ValueError('only dict(key=value, ...) can be called, got '
                             f'{ast.unparse(node)!r}')
        values = [self.visit(word.value) for word in node.keywords]
        return ast.Dict([*map(ast.Constant, names)], values)

    def visit_Name(self, node: ast.Name) -> None:
        """A word without quotes."""
        raise ValueError(f'{node.id!r} is no constant (put text in quotes)')


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
