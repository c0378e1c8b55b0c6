# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A model of little use is called so."""
import pytest

from mmdynperceiver.fitting.result import FitResult, doubts


@pytest.mark.parametrize('last, early, said', [
    (0.95, 0.945, []),
    (0.95, 0.90, ['leaving early costs 5.0 points']),
    (0.41, 0.38, [
        'the last exit is right on 41.0% of the test images, and '
        'naming always the largest class would be on 40.0%'
    ]),
])
def test_doubts(last, early, said):
    result = FitResult('', '', '', '', '', (), early, last, 1., 2., 1., 2.,
                       0.5)
    found = list(doubts(result, half=0.02, largest=0.4))
    assert len(found) == len(said)
    assert all(a.startswith(b) for a, b in zip(found, said))
