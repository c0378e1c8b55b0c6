# Copyright (c) mmdynperceiver contributors. All rights reserved.
import os
import random
from collections import Counter

import pytest

from mmdynperceiver.datasets.hold_out import (choose_hold_out, leave_out,
                                              single_images)
from mmdynperceiver.errors import InputError

LABELS = [0] * 60 + [1] * 30 + [2] * 10
NAMES = [f'{label}/{number}.png' for number, label in enumerate(LABELS)]


def chosen(number, names=NAMES, labels=LABELS):
    return [names[i] for i in choose_hold_out(names, labels, number)]


@pytest.mark.parametrize('number, counts', [
    (3, {
        0: 1,
        1: 1,
        2: 1
    }),
    (10, {
        0: 6,
        1: 3,
        2: 1
    }),
    (25, {
        0: 15,
        1: 8,
        2: 2
    }),
    (97, {
        0: 59,
        1: 29,
        2: 9
    }),
])
def test_each_class_gives_its_share(number, counts):
    found = Counter(int(name[0]) for name in chosen(number))
    assert sum(found.values()) == number
    for label, count in counts.items():
        assert abs(found[label] - count) <= (number == 25)


def test_the_same_in_every_order():
    order = list(range(len(NAMES)))
    random.shuffle(order)
    shuffled = chosen(20, [NAMES[i] for i in order],
                      [LABELS[i] for i in order])
    assert sorted(shuffled) == sorted(chosen(20))
    assert chosen(20) == chosen(20)


def test_not_the_first_ones():
    assert chosen(10) != NAMES[:6] + NAMES[60:63] + NAMES[90:91]


def test_more_images_do_not_reshuffle():
    """A larger hold-out of the same data holds the smaller one."""
    assert set(chosen(10)) < set(chosen(40))


@pytest.mark.parametrize('number', [-1, 0, 2, 98, 100, 1000])
def test_says_the_range(number):
    with pytest.raises(InputError, match=f'3 .* to 97 .* got {number}'):
        chosen(number)


def test_a_single_image_stays_in_training():
    labels = [*LABELS, 3]
    found = chosen(10, [*NAMES, '3/100.png'], labels)
    assert found == chosen(10) and single_images(labels) == [3]
    with pytest.raises(InputError, match='3 .* to 97 .* 101 images'):
        chosen(98, [*NAMES, '3/100.png'], labels)


def test_nothing_to_choose_from():
    with pytest.raises(InputError, match='each is the only one of its class'):
        choose_hold_out(['a', 'b', 'c'], [0, 2, 1], 2)
    with pytest.raises(InputError, match='no images'):
        choose_hold_out([], [], 2)


def test_names_that_are_not_utf8():
    names = [os.fsdecode(b'\xe9%d' % i) for i in range(4)]
    assert len(chosen(2, names, [0, 0, 1, 1])) == 2


def left(tmp_path, names, root='data'):
    """What a list leaves of two images."""
    path = tmp_path / 'list.txt'
    path.write_bytes(names.encode('utf-8', 'surrogateescape'))
    data_list = [dict(p=f'{root}/a/0.png'), dict(p=f'{root}/a/1.png')]
    kept = leave_out(data_list, lambda info: info['p'], str(path), root)
    return [info['p'] for info in kept]


@pytest.mark.parametrize('names', [
    '\ufeffa/0.png\r\n\r\n', 'a\\0.png\n', './a//0.png\t\n',
    f'{os.getcwd()}/data/a/0.png\n'
])
def test_lists_name_the_same_images(tmp_path, names):
    assert left(tmp_path, names) == ['data/a/1.png']
