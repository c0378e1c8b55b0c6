# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Models of the hosts as folders."""
import cv2
import numpy as np
import pytest
import torch
from tiny import CONFIG, ROOT

from mmdynperceiver.core import ExitPolicy, OperatingPoint
from mmdynperceiver.hub import ImageClassifier, from_pretrained
from mmdynperceiver.io.model_folder import read_config, save_folder

pytest.importorskip('mmpretrain')

DEMO = ROOT / 'configs/demo'


def build(path, tmp_path, more=''):
    """A model of a config, small and with weights like no other's."""
    from mmengine.config import Config

    from mmdynperceiver.hosts.build import build_model
    if more:
        path = tmp_path / 'config.py'
        path.write_text(more)
    config = Config.fromfile(str(path))
    torch.manual_seed(0)
    model = build_model(config)
    model.policy = ExitPolicy(model.policy.num_exits,
                              (0.2, ) * (model.policy.num_exits - 1),
                              model.policy.criterion)
    return config, model


def save(folder, config, model, **more):
    from mmdynperceiver.hub.host_models import save_model
    save_model(folder, model, config, **more)
    found = from_pretrained(folder)
    own = model.state_dict()
    assert set(own) == set(found.state_dict())
    assert all(torch.equal(v, own[k]) for k, v in found.state_dict().items())
    assert found.policy.thresholds == model.policy.thresholds
    assert not found.training and type(found) is type(model)
    return found


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.png'
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return str(path)


def test_a_classifier_of_another_backbone(tmp_path, photo):
    from mmpretrain.apis import ImageClassificationInferencer
    config, model = build(
        None, tmp_path,
        CONFIG.replace(
            "arch='resnet18',\n        width=0.25,",
            "arch=dict(type='mmpretrain.ResNet', depth=18, stem_channels=16, "
            'base_channels=16),\n        init_cfg=dict(type="Pretrained", '
            'checkpoint="none.pth"),'))
    point = OperatingPoint((0, 0, 0))
    found = save(
        tmp_path / 'net',
        config,
        model,
        classes=['a', 'b', 'c'],
        operating_points=[point],
        about=dict(author='me'))
    images = torch.randn(2, 3, 64, 64)
    for one, other in zip(
            model(images, mode='tensor'), found(images, mode='tensor')):
        assert torch.equal(one, other)
    result, = ImageClassificationInferencer(found)(photo)
    assert result['pred_class'] in 'abc'
    card = (tmp_path / 'net/README.md').read_text()
    assert 'ImageClassificationInferencer' in card and 'author: me' in card
    chosen = from_pretrained(tmp_path / 'net', operating_point=0)
    assert chosen.policy.thresholds == (0, 0, 0)
    with pytest.raises(ValueError, match='no operating point 1'):
        from_pretrained(tmp_path / 'net', operating_point=1)
    with pytest.raises(ValueError, match='hub.from_pretrained loads both'):
        ImageClassifier.from_pretrained(tmp_path / 'net')


def test_a_recognizer(tmp_path):
    pytest.importorskip('mmaction')
    config, model = build(next(DEMO.glob('*tsm_resnet22*.py')), tmp_path)
    found = save(tmp_path / 'net', config, model)
    frames = torch.randn(2, 8, 3, 64, 64)
    with torch.no_grad():
        pairs = zip(model.run_exits(frames)[0], found.run_exits(frames)[0])
        assert all(torch.equal(one, other) for one, other in pairs)
    from mmaction.apis import inference_recognizer

    from projects.digits import write_video
    path = str(tmp_path / 'a.avi')
    write_video(path, np.zeros((9, 64, 64, 3), np.uint8))
    model.cfg = config
    one, other = (inference_recognizer(m, path) for m in (model, found))
    assert torch.equal(one.pred_score, other.pred_score)
    assert one.exit_index == other.exit_index


def test_a_detector(tmp_path, photo):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmcv.ops')
    from mmdet.apis import inference_detector
    config, model = build(next(DEMO.glob('*retinanet*.py')), tmp_path)
    found = save(tmp_path / 'net', config, model, classes=list('0123456789'))
    assert read_config(tmp_path / 'net')['task'] == 'object-detection'
    model.cfg = config
    one, other = (inference_detector(m, photo) for m in (model, found))
    assert one.exit_index == other.exit_index
    assert torch.equal(one.pred_instances.scores, other.pred_instances.scores)


@pytest.mark.parametrize('name', [
    'mmengine.load', 'os.system', 'mmpretrain.apis.get_model', 5, '__import__'
])
def test_a_folder_runs_no_code_of_its_own(tmp_path, name):
    """The type of any part could name a function to call."""
    content = dict(
        kind='host',
        scope='mmpretrain',
        task='image-classification',
        model=dict(type='DynPerceiverClassifier', backbone=dict(type=name)),
        pipeline=[])
    save_folder(tmp_path / 'net', content, dict(a=torch.zeros(1)), '')
    with pytest.raises(ValueError, match='no name in a registry'):
        from_pretrained(tmp_path / 'net')


def test_hosts_that_are_not_known(tmp_path):
    content = dict(kind='host', scope='mmother', model={}, pipeline=[])
    save_folder(tmp_path / 'net', content, dict(a=torch.zeros(1)), '')
    with pytest.raises(ValueError, match="scope 'mmother'; known are mmpre"):
        from_pretrained(tmp_path / 'net')
