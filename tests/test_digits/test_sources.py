# Copyright (c) mmdynperceiver contributors. All rights reserved.
import numpy as np
import pytest
from sklearn.datasets import load_digits

from projects.digits import SPLITS, DigitSource
from projects.digits.sources import CELL, GRID


@pytest.fixture(scope='module')
def sources():
    return {split: DigitSource(split) for split in SPLITS}


def test_splits_are_disjoint_and_complete(sources):
    rows = np.concatenate([source.indices for source in sources.values()])
    assert sorted(rows) == list(range(1797))
    assert len(sources['train']) == 1200
    assert len(sources['val']) == 297
    assert len(sources['test']) == 300


def test_splits_are_stratified(sources):
    counts = {
        split: np.bincount(source.labels)
        for split, source in sources.items()
    }
    assert set(counts['train']) == {120}
    assert set(counts['test']) == {30}
    assert min(counts['val']) >= 24


def test_splits_are_the_same_in_every_run(sources):
    # As found when the split was fixed: another split would mix old training
    # digits into new test sets.
    assert sources['test'].indices[:5].tolist() == [0, 5, 26, 33, 38]
    sums = [int(sources[split].indices.sum()) for split in SPLITS]
    assert sums == [1060867, 269081, 283758]


def test_labels_and_members(sources):
    target = load_digits().target
    for source in sources.values():
        assert np.array_equal(source.labels, target[source.indices])
        for label in range(10):
            assert (source.labels[source.members(label)] == label).all()


def test_fields_show_the_source_digits(sources):
    source = sources['val']
    cells = load_digits().images[source.indices] / 16
    inner = source.fields[:, 2 * CELL:-2 * CELL, 2 * CELL:-2 * CELL]
    means = inner.reshape(-1, GRID, CELL, GRID, CELL).mean((2, 4))
    for mean, cell in zip(means, cells):
        assert np.corrcoef(mean.ravel(), cell.ravel())[0, 1] > 0.9
    # The digit fills its field's cells in height, and margins are empty.
    assert source.extents[:, 1].min() > 5
    assert source.fields[:, 0].max() < 0.1


def test_unknown_split():
    with pytest.raises(ValueError, match="train, val, test, got 'dev'"):
        DigitSource('dev')
