# Copyright (c) mmdynperceiver contributors. All rights reserved.
import argparse

import pytest

from mmdynperceiver.cli.cfg_options import parse_value
from mmdynperceiver.cli.options import CfgOptions


@pytest.mark.parametrize('text, value', [
    ("dict(type='paper', alpha=0.5)", dict(type='paper', alpha=.5)),
    ("dict(_delete_=True, a=dict(b=[1, (2, -3.)]), c=None)",
     dict(_delete_=True, a=dict(b=[1, (2, -3.)]), c=None)),
    ("{'a': {'b': 'x=y,z'}}", dict(a=dict(b='x=y,z'))),
    ("[dict(type='A'), dict(type='B')]", [dict(type='A'),
                                          dict(type='B')]),
    ('dict()', {}),
    ('12', 12),
    ('0.5', .5),
    ('true', True),
    ('None', None),
    ('a,b', ['a', 'b']),
    ('[(1,2),c]', [(1, 2), 'c']),
    ('some/epoch_{}.pth', 'some/epoch_{}.pth'),
    ('a_{}.pth,b', ['a_{}.pth', 'b']),
    ("((1,2),dict(a='{}'))", ((1, 2), dict(a='{}'))),
])
def test_values(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize('text, message', [
    ('dict(a=b)', "'b' is no constant"),
    ("dict(a=open('x'))", 'only dict'),
    ("dict('a')", 'only dict'),
    ('dict(**{})', 'only dict'),
    ('dict(a=1', 'not a value that a config could have'),
    ('{[1]: 2}', 'not a value that a config could have'),
    ('f(a=1,b=2)', 'brackets do not match'),
    ('[1,2', 'brackets do not match'),
])
def test_what_is_no_value(text, message):
    with pytest.raises(ValueError, match=message):
        parse_value(text)


def parse(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions)
    return parser.parse_args(['--cfg-options', *words]).cfg_options


def test_pairs_are_collected():
    assert parse('a.b=1', "c=dict(d='e=f')", 'a.b=2') == {
        'a.b': 2,
        'c': dict(d='e=f')
    }


@pytest.mark.parametrize('word', ['a', '=1', "a=dict(b=c)"])
def test_a_wrong_pair_is_an_error_of_use(word, capsys):
    with pytest.raises(SystemExit):
        parse(word)
    assert '--cfg-options' in capsys.readouterr().err
