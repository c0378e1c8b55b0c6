# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Where networks run: on the device that one names, or a GPU."""
from typing import Optional

import mmengine.device.utils as host
import torch
from mmengine.device import get_device

from ..errors import InputError, one_line

__all__ = ['on_gpu', 'use_device']

_CHOICE_OF_HOST = get_device()


def use_device(name: Optional[str] = None) -> str:
    """Let runners of mmengine use a device, and check that it can be used.

    mmengine itself takes the first GPU wherever there is one.

    Args:
        name (str, optional): Such as 'cpu' or 'cuda:1'. Defaults to None:
            what mmengine chooses.

    Returns:
        str: The device; without a name a GPU if there is one.

    Raises:
        InputError: If it cannot be used.
    """
    if name is None:
        host.DEVICE = _CHOICE_OF_HOST
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f'--device {name} cannot be used: '
                         f'{one_line(error)}') from error
    if device.type == 'cuda':
        torch.cuda.set_device(device)
    host.DEVICE = device.type
    return name


def on_gpu() -> bool:
    """Whether runners of mmengine use a GPU."""
    return get_device() == 'cuda'
