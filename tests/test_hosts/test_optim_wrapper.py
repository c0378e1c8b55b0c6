# Copyright (c) mmdynperceiver contributors. All rights reserved.
import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


def test_bfloat16_forward_and_single_precision_weights():
    model = nn.Linear(2, 1)
    before = model.weight.clone()
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='BFloat16OptimWrapper',
            optimizer=torch.optim.SGD(model.parameters(), lr=1.)))
    with wrapper.optim_context(model):
        out = model(torch.ones(4, 2))
    assert out.dtype == torch.bfloat16
    assert model(torch.ones(4, 2)).dtype == torch.float32
    wrapper.update_params(out.float().mean())
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(model.weight, before - 1)
