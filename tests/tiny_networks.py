# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Networks of each other family small enough for tests."""
import torch

from mmdynperceiver.core import EarlyExitNet, build_feature_branch
from mmdynperceiver.core.networks import MSDNet, RANet, ResolutionCascade

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
# The first of three sub-networks has two exits.
RANET = dict(
    scales=(1, 2, 3),
    more_blocks=1,
    step=2,
    stem_channels=4,
    growth=4,
    growth_factors=(2, 1, 1),
    bottleneck_factors=(2, 1, 1),
    exit_width=8)


def cascade(shared=False):
    """Small networks at 16, 23 and 32 of 32 pixels."""
    arch = dict(block='basic', depths=(1, 1, 1, 1), stem_stride=2)
    return ResolutionCascade(
        [build_feature_branch(arch, 0.125) for _ in range(1 if shared else 3)])


TRUNKS = dict(
    msdnet=lambda: MSDNet(**MSDNET),
    ranet=lambda: RANet(**RANET),
    cascade=cascade,
    shared=lambda: cascade(True))


@torch.no_grad()
def build_network(name, boosting=None):
    """A network of five classes whose exits disagree, in eval mode."""
    torch.manual_seed(0)
    net = EarlyExitNet(TRUNKS[name](), 5, boosting=boosting)
    for weight in net.exits.parameters():
        weight.mul_(6)
    for _ in range(20):
        net(torch.randn(16, 3, SIZE, SIZE))
    return net.eval()


def spread(logits):
    """Thresholds at which some of 7 or 9 leave at each exit, none of them
    the confidence of one."""
    return tuple(
        x.softmax(1).amax(1).quantile(q).item()
        for x, q in zip(logits[:-1], (0.7, 0.55, 0.45, 0.35)))
