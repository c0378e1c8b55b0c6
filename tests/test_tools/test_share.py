# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From a trained checkpoint to a folder that loads anywhere."""
import dataclasses

import pytest
import torch
from PIL import Image

from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.io.atomic import write_json
from mmdynperceiver.io.model_folder import read_config

pytest.importorskip('safetensors')
pytest.importorskip('huggingface_hub')
TOOL = 'model_converters/checkpoint_to_folder'
SIZE = ('--size', '32', '32')


@pytest.fixture
def share(config, tool, checkpoint, tmp_path):
    """Run the tool; returns its output, error and the folder."""

    def run(*options, more=''):
        folder = tmp_path / 'shared'
        output, error = tool(TOOL, config(more), checkpoint, folder, *options)
        return output, error, folder

    return run


def test_the_network_with_all_it_needs(share, config, checkpoint, images,
                                       tmp_path):
    from mmengine.config import Config

    from mmdynperceiver.hosts.build import build_model
    from mmdynperceiver.hub import ImageClassifier, from_pretrained
    points = [OperatingPoint((0.9, 0.9, 0.9)), OperatingPoint((0.4, 0.5, 0.6))]
    write_json(tmp_path / 'sweep.json',
               dict(points=[dataclasses.asdict(p) for p in points]))
    output, error, folder = share('--thresholds-file',
                                  f'{tmp_path}/sweep.json:1', *SIZE, '--about',
                                  'trained on=three colours')
    assert error is None and 'image-classification' in output
    net = from_pretrained(folder)
    assert type(net) is ImageClassifier
    assert net.classes == ['ant', 'bee', 'cow']
    assert net.policy.thresholds == (0.4, 0.5, 0.6)
    assert net.operating_points == points
    about = net.about
    assert about['trained on'] == 'three colours' and about['epoch'] == 1
    assert len(about['checkpoint_sha256']) == 64

    model = build_model(Config.fromfile(config()))
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    path = images / 'val/bee/0.png'
    pixels = torch.from_numpy(net.preprocessing(path))[None]
    batch = model.data_preprocessor(
        dict(inputs=[
            torch.from_numpy(net.preprocessing.read(path).copy()).permute(
                2, 0, 1).flip(0)
        ]))
    torch.testing.assert_close(pixels, batch['inputs'])
    for one, other in zip(net(pixels), model(pixels, mode='tensor')):
        assert torch.equal(one, other)
    result, = net.classify(path)
    assert result.exit_index == int(net.predict(pixels).exit_index)
    # Nothing is overwritten.
    _, error, _ = share(*SIZE)
    assert 'there is something at' in error


def test_another_backbone_is_saved_with_its_config(config, tool, tmp_path):
    from mmengine.config import Config

    from mmdynperceiver.hosts.build import build_model
    from mmdynperceiver.hub import from_pretrained
    path = config("model['backbone'] = dict(_delete_=True, type="
                  "'DynPerceiverBackbone', num_latents=16, arch=dict(type="
                  "'mmpretrain.ResNet', depth=18, stem_channels=16, "
                  'base_channels=16))\n')
    model = build_model(Config.fromfile(path))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    output, error = tool(TOOL, path, tmp_path / 'model.pth',
                         tmp_path / 'shared', '--exit', '1')
    assert error is None
    assert read_config(tmp_path / 'shared')['kind'] == 'host'
    found = from_pretrained(tmp_path / 'shared')
    assert found.policy.thresholds == (2, 0, 0)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(
        found(images, mode='tensor')[3],
        model(images, mode='tensor')[3])


def test_pushing(share, monkeypatch):
    import huggingface_hub

    class Api:

        def __init__(self, token):
            pass

        def create_repo(self, name, **kwargs):
            raise ConnectionError('no\nnetwork')

    monkeypatch.setattr(huggingface_hub, 'HfApi', Api)
    _, error, folder = share(*SIZE, '--push', 'me/ants')
    assert "could not be pushed to 'me/ants'" in error and '\n' not in error
    assert read_config(folder)['classes'][0] == 'ant'


@pytest.mark.parametrize('options, message', [
    ((), 'say which one they have with --size'),
    (('--thresholds', '0.5', *SIZE), 'need 3 thresholds'),
    (('--classes', 'none.txt', *SIZE), 'none.txt'),
])
def test_errors_are_one_line_and_leave_nothing(share, options, message):
    _, error, folder = share(*options)
    assert message in error and '\n' not in error
    assert not folder.exists()


def test_a_pipeline_that_resizes(share, tmp_path):
    """Its size is that of the network."""
    more = "test_dataloader['dataset']['pipeline'] = [dict(type=" \
        "'LoadImageFromFile'), dict(type='Resize', scale=32), " \
        "dict(type='PackInputs')]\n"
    output, error, folder = share(more=more)
    assert error is None and 'without thresholds' in output
    Image.new('RGB', (50, 40)).save(tmp_path / 'a.png')
    from mmdynperceiver.hub import from_pretrained
    result, = from_pretrained(folder).classify(tmp_path / 'a.png')
    assert result.exit_index == 3
