# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Options of where samples leave mean the same in all tools."""
from argparse import Namespace

import pytest
from torch import nn

from mmdynperceiver.cli.common import choose_policy
from mmdynperceiver.core import DynPerceiver, ExitPolicy, OperatingPoint
from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts.exit_model import EarlyExitModel

GIVEN, LOADED = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
WARM = (2., 2., 2., 2.)


class Model(EarlyExitModel, nn.Module):
    """Its checkpoint has brought an operating point."""

    def __init__(self):
        super().__init__()
        self.net = DynPerceiver('resnet18', width=0.25, num_latents=16)
        self.policy = ExitPolicy(4, None)
        self.policy.set_extra_state(
            ExitPolicy(4, LOADED, 'entropy', WARM).get_extra_state())

    def exit_parts(self):
        return self.net.exit_parts()


@pytest.fixture(scope='module')
def model():
    return Model()


@pytest.fixture
def point(tmp_path):
    """A file of an operating point."""
    path = tmp_path / 'point.json'
    OperatingPoint((0.7, 0.8, 0.9), 'margin', 3.).save(path)
    return str(path)


def settings(model, config=None, **options):
    args = dict(
        thresholds=None, thresholds_file=None, exit=None, checkpoint=None)
    found = choose_policy(Namespace(**dict(args, **options)), model, config)
    return found.thresholds, found.criterion, found.temperature


def test_thresholds_alone_keep_criterion_and_temperatures(model, point):
    assert settings(model) == (LOADED, 'entropy', WARM)
    kept = (GIVEN, 'entropy', WARM)
    assert settings(model, thresholds=GIVEN) == kept
    # Those of the config outrank those of the checkpoint.
    assert settings(
        model, dict(thresholds=point),
        thresholds=GIVEN) == (GIVEN, 'margin', (3., ) * 4)
    # An exit of the config says nothing of a criterion.
    assert settings(model, dict(exit_index=1), thresholds=GIVEN) == kept


def test_options_outrank_the_config(model, point):
    assert settings(model, dict(exit_index=1))[0] == (2, 0, 0)
    assert settings(model, dict(thresholds=GIVEN))[0] == GIVEN
    assert settings(model, dict(thresholds=GIVEN), exit=0)[0] == (0, 0, 0)
    assert settings(
        model, dict(exit=2),
        thresholds_file=point) == ((0.7, 0.8, 0.9), 'margin', (3., ) * 4)
    assert model.policy.thresholds == LOADED


@pytest.mark.parametrize('options, message', [
    (dict(thresholds=(0.5, )), 'need 3 thresholds'),
    (dict(thresholds_file='nowhere.json'), 'nowhere.json'),
    (dict(exit=4), 'one of 0 to 3'),
])
def test_refuses(model, options, message):
    with pytest.raises(InputError, match=message):
        settings(model, **options)


def test_refuses_models_without_exits():
    with pytest.raises(InputError, match='early-exit models, got Linear'):
        settings(nn.Linear(1, 1), thresholds=GIVEN)
