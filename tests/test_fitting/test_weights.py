# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which network a file of weights is of."""
import pytest
import torch
from torchvision.models import get_model

from mmdynperceiver.errors import InputError
from mmdynperceiver.fitting.weights import arch_of_weights


@pytest.mark.parametrize('name, classes', [('mobilenet_v2', 1000),
                                           ('mobilenet_v3_small', 7)])
def test_of_the_files_of_torchvision(name, classes, tmp_path):
    weights = get_model(name, num_classes=classes).state_dict()
    torch.save(weights, tmp_path / 'a.pth')
    assert arch_of_weights(str(tmp_path / 'a.pth')) == f'torchvision.{name}'


def test_of_other_files(tmp_path):
    path = str(tmp_path / 'a.pth')
    with pytest.raises(InputError, match='no .*file'):
        arch_of_weights(path)
    torch.save(dict(a=torch.zeros(1)), path)
    with pytest.raises(InputError, match="none of these.*begin with 'a'"):
        arch_of_weights(path)
