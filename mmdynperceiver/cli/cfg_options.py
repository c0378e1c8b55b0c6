# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The values of ``--cfg-options``."""
import argparse
import ast
import re
from typing import Any, Optional, Sequence, Union

from mmengine.config import DictAction

__all__ = ['CfgOptions', 'parse_value']


class CfgOptions(DictAction):
    """Read ``key=value`` pairs as mmengine does, and dicts besides.

    mmengine's own action knows numbers, words, lists and tuples, and ends in
    a RecursionError at ``key="dict(type='A', b=1)"``, which is how a config
    writes it. A value that cannot be read is an error of use.
    """

    def __call__(self,
                 parser: argparse.ArgumentParser,
                 namespace: argparse.Namespace,
                 values: Union[str, Sequence[Any], None],
                 option_string: Optional[str] = None) -> None:
        """See :class:`argparse.Action`."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in values or ():
            key, equals, text = pair.partition('=')
            if not equals or not key.strip():
                parser.error(f'{option_string} takes key=value, got {pair!r}')
            try:
                options[key.strip()] = parse_value(text)
            except ValueError as error:
                parser.error(f'{option_string} {key}: {error}')
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Read one value.

    Args:
        text (str): A number, a word, ``a,b``, ``[a,b]``, ``(a,b)``, or what a
            config would have: ``dict(type='A', b=[1, 2])``, ``{'a': 1}``.

    Raises:
        ValueError: If it is none of these.
    """
    # Elsewhere a brace is one of the text, as in 'epoch_{}.pth'.
    if re.match(r'\s*(dict\(|{|[(\[].*(dict\(|{))', text, re.DOTALL):
        try:
            return _literal(ast.parse(text.strip(), mode='eval').body)
        except (SyntaxError, RecursionError, MemoryError, TypeError) as error:
            raise ValueError(
                f'{text!r} is not a value that a config could have, such as '
                f"\"dict(type='A', b=[1, 2])\": {error}") from error
    try:
        return DictAction._parse_iterable(text)
    except (AssertionError, RecursionError) as error:
        raise ValueError(f'{text!r} is no number, word or list (quotes or '
                         f'brackets do not match)') from error


def _literal(node: ast.expr) -> Any:
    """The value of a constant, a container, or a call of ``dict``."""
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or \
                node.args or any(word.arg is None for word in node.keywords):
            raise ValueError('only dict(key=value, ...) can be called, got '
                             f'{ast.unparse(node)!r}')
        return {word.arg: _literal(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        if any(key is None for key in node.keys):
            raise ValueError('a dict without ** is expected')
        return {
            _literal(key): _literal(value)  # type: ignore[arg-type]
            for key, value in zip(node.keys, node.values)
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_literal(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f'{ast.unparse(node)!r} is no constant (put text in '
                         f'quotes)') from None
