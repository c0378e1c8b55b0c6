# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Networks of each other family small enough for tests."""
import torch

from mmdynperceiver.core import EarlyExitNet
from mmdynperceiver.core.networks import MSDNet

SIZE = 32
MSDNET = dict(
    num_exits=3,
    base=2,
    step=2,
    stem_channels=4,
    growth=2,
    # One scale ends with each exit.
    growth_factors=(1, 2, 2),
    bottleneck_factors=(1, 2, 2),
    exit_width=8)
TRUNKS = dict(msdnet=lambda: MSDNet(**MSDNET))


@torch.no_grad()
def build_network(name):
    """A network of five classes whose exits disagree, in eval mode."""
    torch.manual_seed(0)
    net = EarlyExitNet(TRUNKS[name](), 5)
    for weight in net.exits.parameters():
        weight.mul_(6)
    for _ in range(20):
        net(torch.randn(16, 3, SIZE, SIZE))
    return net.eval()


def spread(logits):
    """Thresholds at which some leave at each exit."""
    return tuple(
        x.softmax(1).amax(1).quantile(q).item()
        for x, q in zip(logits[:-1], (0.7, 0.5, 0.4, 0.3)))
