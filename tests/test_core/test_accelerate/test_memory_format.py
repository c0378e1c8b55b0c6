# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Trunks run channels-last where that is right, and as they came elsewhere."""
import torch
from torch import nn

from mmdynperceiver.core import Trunk


def test_trunk_runs_channels_last():
    trunk = Trunk('regnety-400mf', num_latents=16).eval()
    with torch.no_grad():
        state = trunk.initial_state(torch.randn(2, 3, 64, 64))
        for index in range(trunk.num_segments):
            state, _ = trunk.segment(index, state)
            assert state.x.is_contiguous(memory_format=torch.channels_last)


def test_training_runs_channels_last():
    trunk = Trunk('resnet18', width=0.125, num_latents=16)
    state = trunk.initial_state(torch.randn(2, 3, 64, 64))
    for index in range(trunk.num_segments):
        state, _ = trunk.segment(index, state)
        assert state.x.is_contiguous(memory_format=torch.channels_last)


def test_batch_norms_of_a_training_keep_their_precision():
    """With many places per channel, those of channels-last maps do not."""
    trunk = Trunk('resnet18', width=0.125, num_latents=16)
    few = torch.empty(32, 3, 256, 256)
    many = torch.empty(33, 3, 256, 256)
    assert trunk.initial_state(few).x.is_contiguous(
        memory_format=torch.channels_last)
    assert trunk.initial_state(many).x is many
    trunk.eval()
    assert trunk.initial_state(many).x.is_contiguous(
        memory_format=torch.channels_last)
    x = torch.randn(32, 4, 128, 128)
    norm = nn.BatchNorm2d(4)
    torch.testing.assert_close(
        norm(x.contiguous(memory_format=torch.channels_last)),
        norm(x),
        atol=1e-4,
        rtol=1e-4)
