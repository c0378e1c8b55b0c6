# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Published files become checkpoints of configs."""
import copy
import hashlib

import pytest
import torch
from mmengine.config import Config
from test_core import reference
from test_core.reference import family_of, publish
from tiny import ROOT

from mmdynperceiver.core import DynPerceiver, available_archs
from mmdynperceiver.core.official import infer_variant
from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts import convert
from mmdynperceiver.hosts.build import build_model

pytest.importorskip('mmpretrain')

CONFIGS = ROOT / 'configs/imagenet'


def is_published(path):
    """Tell the networks that published names exist for."""
    backbone = Config.fromfile(path).model.backbone
    return (backbone.type == 'DynPerceiverBackbone'
            and backbone.arch in available_archs() and 'exits' not in backbone)


LEAVES = [
    path for path in sorted(CONFIGS.glob('dyn-perceiver_*.py'))
    if is_published(path)
]
# The config of each reference variant; the third has none.
PARITY = {
    'mobilenetv3-0.75x_t128':
    'dyn-perceiver_mobilenetv3-large-w075_8xb128-600e_in1k.py',
    'regnety-800mf_t128': 'dyn-perceiver_regnety-800mf_8xb128_in1k.py',
    'regnety-400mf_t64_no-fkt_no-z2x': None,
    'resnet50-0.375x_t128': 'dyn-perceiver_resnet50-w0375_8xb128_in1k.py',
}
SMALL = dict(arch='resnet18', width=0.25, num_latents=16, num_classes=7)


def save(path, published):
    """A published file: the average differs from the trained weights."""
    average = {
        f'module.{name}': value * 1.25 if value.is_floating_point() else value
        for name, value in published.items()
    }
    torch.save(dict(model=published, model_ema=average), path)
    return str(path)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A published file of a small network that no config is for."""
    torch.manual_seed(0)
    published = publish(DynPerceiver(**SMALL).state_dict(), 'resnet')
    return save(tmp_path_factory.mktemp('small') / 'small.pth', published)


@pytest.fixture(scope='module')
def matched(small):
    """It, read, and the config that it gets."""
    source = convert.read_source(small)
    return source, convert.find_config(str(CONFIGS), source)


@pytest.mark.parametrize('variant', reference.VARIANTS)
def test_the_configs_model_gives_the_published_logits(variant, tmp_path):
    _, published, expected = reference.load(variant)
    path = save(tmp_path / 'published.pth', published)
    source = convert.read_source(path)
    match = convert.find_config(str(CONFIGS), source)
    assert (match.path and match.path.rpartition('/')[2]) == PARITY[variant]
    assert match.options == {}

    out = tmp_path / 'checkpoint.pth'
    assert convert.write_verified(source, match, str(out)) <= 1e-6
    checkpoint = torch.load(out, weights_only=True)
    model = build_model(match.config)
    model.load_state_dict(checkpoint['state_dict'], strict=True)
    with torch.no_grad():
        logits = model(reference.images(), mode='tensor')
    for got, want in zip(logits, expected, strict=True):
        torch.testing.assert_close(got, want, atol=2e-4, rtol=0)

    averaged = convert.read_source(path, 'model_ema')
    assert convert.write_verified(averaged, match, str(out)) <= 1e-6
    other = torch.load(out, weights_only=True)['state_dict']
    name = 'backbone.net.latents'
    assert torch.equal(other[name], 1.25 * checkpoint['state_dict'][name])


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_published_names_and_shapes_of_every_config(path):
    """From a config's own network to published names, and back."""
    config = Config.fromfile(path)
    config.model.pop('train_cfg')
    model = build_model(config)
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    core = {
        name.replace('backbone.net.', 'trunk.').replace('head.', ''): value
        for name, value in model.state_dict().items()
    }
    published = publish(core, family_of(config.model.backbone.arch))
    net = DynPerceiver(**infer_variant(published))
    renamed = convert.rename(net.state_dict())
    assert {k: v.shape for k, v in renamed.items()} == shapes


def test_says_what_it_was_made_from(small):
    source = convert.read_source(small, 'model_ema')
    meta = convert.checkpoint_of(source)['meta']
    with open(small, 'rb') as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    made_from = meta['made_from']
    assert made_from['file'] == 'small.pth'
    assert made_from['sha256'] == digest
    assert made_from['weights'] == 'model_ema'
    assert made_from['variant']['num_classes'] == 7
    assert DynPerceiver(**made_from['variant']).exits.num_exits == 4


def test_other_classes_are_an_option_and_other_recipes_are_named(tmp_path):
    net = DynPerceiver('regnety-400mf', 5, num_latents=64)
    path = save(tmp_path / 'a.pth', publish(net.state_dict(), 'regnety'))
    match = convert.find_config(str(CONFIGS), convert.read_source(path))
    assert match.path.endswith('dyn-perceiver_regnety-400mf_8xb128_in1k.py')
    assert match.options == {
        'model.backbone.num_latents': 64,
        'model.head.num_classes': 5
    }
    assert [name.rpartition('/')[2] for name in match.others
            ] == ['dyn-perceiver_regnety-400mf-no-distill_8xb128_in1k.py']


def test_a_backbone_takes_its_part_of_the_file(matched, tmp_path):
    source, match = matched
    out = str(tmp_path / 'checkpoint.pth')
    convert.write_verified(source, match, out)
    config = copy.deepcopy(match.config)
    config.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=out, prefix='backbone.')
    config.model.head.num_classes = 3
    model = build_model(config)
    model.init_weights()
    for name, value in source.net.trunk.state_dict().items():
        assert torch.equal(model.backbone.net.state_dict()[name], value), name


def test_nothing_is_written_if_the_logits_differ(matched, tmp_path,
                                                 monkeypatch):
    source, match = matched
    # What a mistake in the table of names would lead to.
    weights = convert.rename(source.net.state_dict())
    swapped = dict(weights)
    first = next(k for k in weights if k.endswith('blocks.0.norm.weight'))
    swapped[first] = weights[first] * 2
    monkeypatch.setattr(convert, 'rename', lambda _: swapped)
    out = tmp_path / 'checkpoint.pth'
    out.write_text('before')
    with pytest.raises(InputError, match='gives other logits'):
        convert.write_verified(source, match, str(out))
    assert out.read_text() == 'before'
    assert [path.name for path in tmp_path.iterdir()] == ['checkpoint.pth']


def test_refuses_a_folder_without_configs(matched, tmp_path):
    with pytest.raises(InputError, match='no configs of Dyn-Perceiver'):
        convert.find_config(str(tmp_path / 'nothing'), matched[0])
