# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Models inside what distributes or augments them."""
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

__all__ = ['is_wrapper', 'unwrap_model']


def unwrap_model(model: nn.Module) -> nn.Module:
    """Get the model itself out of what distributes or augments it."""
    while is_wrapper(model):
        model = model.module
    return model


def is_wrapper(model: nn.Module) -> bool:
    """Whether a model distributes or augments another one."""
    return is_model_wrapper(model) or isinstance(model, BaseTTAModel)
