# Copyright (c) mmdynperceiver contributors. All rights reserved.
import random
from collections import Counter

import pytest

from mmdynperceiver.engine import InputError
from mmdynperceiver.engine.hold_out import (choose_hold_out, read_list,
                                            write_list)

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


def test_classes_too_small():
    with pytest.raises(InputError, match='class 1 has only one image'):
        choose_hold_out(['a', 'b', 'c'], [0, 0, 1], 2)
    with pytest.raises(InputError, match='no images'):
        choose_hold_out([], [], 2)


def test_list_files(tmp_path):
    path = tmp_path / 'new' / 'list.txt'
    write_list(path, ['a b/ü.png', 'c.png'])
    assert read_list(path) == ['a b/ü.png', 'c.png']
    (tmp_path / 'empty.txt').write_text('\n\n')
    with pytest.raises(InputError, match='empty.txt.* is empty'):
        read_list(tmp_path / 'empty.txt')
    with pytest.raises(InputError, match='nowhere.*No such file'):
        read_list(tmp_path / 'nowhere')
