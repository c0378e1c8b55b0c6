# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Networks of other families, exported: states of several maps."""
from functools import partial

import numpy as np
import pytest
import torch
from tiny_networks import SIZE, TRUNKS, build_network, spread

from mmdynperceiver.core import EarlyExitNet, ExitPolicy, build_feature_branch
from mmdynperceiver.core.networks import ConvAIG
from mmdynperceiver.deploy import Manifest, Runner
from mmdynperceiver.deploy.export import export_network
from .conftest import CLASSES, PREPROCESSING, build_net

NETWORKS = {
    **{
        name: partial(build_network, name)
        for name in TRUNKS
    }, 'boosted': partial(build_network, 'msdnet', 0.5),
    'boosted dyn-perceiver': partial(build_net, boosting=0.5)
}


@pytest.mark.parametrize('name', NETWORKS)
def test_runner_leaves_as_the_network(name, tmp_path):
    net = NETWORKS[name]()
    images = torch.randn(7, 3, SIZE, SIZE)
    with torch.no_grad():
        thresholds = spread(net(images))
    folder = tmp_path / 'exported'
    export_network(*net.exit_parts(), folder,
                   dict(PREPROCESSING, size=[SIZE, SIZE]),
                   ExitPolicy(net.policy.num_exits, thresholds), CLASSES)
    segments = Manifest.load(folder).segments
    assert segments[0].inputs == ['images']
    expected = net.predict(images, thresholds)
    assert len(set(expected.exit_index.tolist())) > 1
    found = Runner.load(folder, threads=1).predict(images.numpy())
    np.testing.assert_array_equal(found.exit_index, expected.exit_index)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-3)


def test_what_chooses_inside_of_a_segment_is_refused(tmp_path):
    trunk = ConvAIG(build_feature_branch('resnet18', 0.125))
    net = EarlyExitNet(trunk, len(CLASSES)).eval()
    with pytest.raises(ValueError, match='ConvAIG chooses by values'):
        export_network(*net.exit_parts(), tmp_path / 'exported',
                       dict(PREPROCESSING, size=[SIZE, SIZE]), net.policy,
                       CLASSES)
    assert not (tmp_path / 'exported').exists()
