# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Agreement with the published implementation's reference outputs."""
import pytest
import torch

from mmdynperceiver.core import load_official
from . import reference


@pytest.mark.parametrize('variant', reference.VARIANTS)
def test_parity(variant):
    facts, state_dict, expected = reference.load(variant)
    net = load_official({'model': state_dict})

    assert not net.training
    num_parameters = sum(p.numel() for p in net.parameters())
    assert num_parameters == facts['num_parameters']
    with torch.no_grad():
        logits = net(reference.images())
    for got, want in zip(logits, expected, strict=True):
        torch.testing.assert_close(got, want, atol=2e-4, rtol=0)
    assert net.macs_per_exit((3, 224, 224)) == pytest.approx(
        facts['macs_per_exit'], rel=0.015)


def test_all_variants_are_there():
    assert len(reference.VARIANTS) == 4
