# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A network that is saved comes back as it was."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmdynperceiver.core import (DynPerceiver, OperatingPoint, create_model,
                                 split_backbone)
from mmdynperceiver.hub import ImageClassifier, from_pretrained
from .conftest import SETTINGS


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(12, 3, 48, 48)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other))


def test_round_trip(classifier, net, images, tmp_path):
    classifier.save_pretrained(tmp_path / 'new' / 'ants')
    found = from_pretrained(tmp_path / 'new' / 'ants')
    assert type(found) is ImageClassifier and not found.training
    assert same(found(images), net(images))
    assert found.policy.thresholds == (0.75, 0.6, 0.5)
    assert found.policy.temperature == (1.5, 1, 1, 1)
    expected = classifier.predict(images)
    assert 1 < len(set(expected.exit_index.tolist()))
    assert same(found.predict(images), expected)
    assert found.classes == ['ant', 'bee', 'cow']
    assert found.operating_points == classifier.operating_points
    assert found.about == {'trained on': 'nothing'}
    # Once more, of what was loaded.
    found.save_pretrained(tmp_path / 'again')
    contents = [(tmp_path / name / 'config.json').read_text()
                for name in ('new/ants', 'again')]
    assert contents[0] == contents[1]


def test_thresholds_set_by_hand_and_other_points(classifier, tmp_path):
    classifier.policy.set_thresholds((0.2, 0.3, 0.4))
    classifier.save_pretrained(tmp_path / 'a')
    found = ImageClassifier.from_pretrained(tmp_path / 'a')
    assert found.policy.thresholds == (0.2, 0.3, 0.4)
    found.use_operating_point(1)
    assert found.policy.thresholds == (0, 0, 0)
    found = from_pretrained(tmp_path / 'a', operating_point=0)
    assert found.policy.thresholds == (0.75, 0.6, 0.5)
    with pytest.raises(ValueError, match='no operating point 2.* has 2'):
        from_pretrained(tmp_path / 'a', operating_point=2)


def test_files_are_classified_as_by_hand(classifier, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (3, 48, 48, 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f'{number}.png')
    results = classifier.eval().classify(tmp_path, batch_size=2)
    batch = torch.from_numpy(classifier.preprocessing.batch(list(pixels)))
    expected = classifier.predict(batch)
    macs = classifier.macs_per_exit((3, 48, 48))
    for row, result in enumerate(results):
        assert result.path == str(tmp_path / f'{row}.png')
        assert result.exit_index == expected.exit_index[row]
        assert result.macs == macs[result.exit_index]
        label = int(expected.logits[row].argmax())
        assert result.name == classifier.classes[label]
        assert result.scores == pytest.approx(
            expected.logits[row].softmax(0).numpy(), abs=1e-4)


def test_the_card_says_what_it_costs(classifier, tmp_path):
    classifier.save_pretrained(tmp_path / 'ants')
    card = (tmp_path / 'ants' / 'README.md').read_text()
    for part in ('# ants', 'pipeline_tag: image-classification',
                 '| 0 (in force) | 0.75, 0.6, 0.5 | 0.9100 | 0.8900 | 5.0 | '
                 '40% / 30% / 20% / 10% |', '- trained on: nothing',
                 'max_prob reaches 0.75, 0.6, 0.5', 'ant, bee, cow'):
        assert part in card
    assert classifier.generate_model_card().data.library_name == \
        'mmdynperceiver'


def test_what_does_not_fit(net, classifier, tmp_path):
    for change, message in (
        (dict(classes=['a']), 'classes must hold 3 names'),
        (dict(operating_points=[OperatingPoint((0.5, ))]),
         'its num_exits is 2, here it is 4'), (dict(operating_points=[
             OperatingPoint((0, 0, 0), model=dict(parameters=5))
         ]), 'its parameters is 5')):
        with pytest.raises(ValueError, match=message):
            ImageClassifier.of(net, **change)
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'mine').write_text('')
    with pytest.raises(FileExistsError, match='something at'):
        classifier.save_pretrained(tmp_path / 'full')
    with pytest.raises(ValueError, match='config.json and the card follow'):
        classifier.save_pretrained(tmp_path / 'b', config={})
    branch = split_backbone(
        torch.nn.Sequential(*(torch.nn.Conv2d(3 if k == 0 else 8, 8, 3, 2, 1)
                              for k in range(5))))
    unnamed = DynPerceiver(branch, num_latents=8, num_classes=3)
    with pytest.raises(ValueError, match='cut from a module'):
        ImageClassifier.of(unnamed)
    with pytest.raises(ValueError, match='without the preparation'):
        ImageClassifier.of(net).classify('a.png')


def test_a_config_of_another_network(classifier, tmp_path):
    """With a checksum that is right: only what it says is wrong."""
    from mmdynperceiver.io import model_folder
    for changes, message in ((dict(width=0.5), 'not those of the network'),
                             (dict(arch='resnet99'),
                              'unknown arch'), (dict(fancy=1), 'fancy')):
        folder = tmp_path / message[:7]
        content = classifier.describe()
        content['model'] = content['model'] | changes
        model_folder.save_folder(folder, content, classifier.state_dict(), '')
        with pytest.raises(ValueError, match=message) as error:
            from_pretrained(folder)
        assert '\n' not in str(error.value)


def test_new_classes_forget_the_names(classifier):
    classifier.reset_classifier(5)
    assert classifier.classes == list('01234')
    assert not classifier.operating_points
    assert classifier.policy.thresholds is None


def test_pushing_uploads_what_is_saved(classifier, tmp_path, monkeypatch):
    """All but the way to the Hub."""
    import shutil
    from types import SimpleNamespace

    from huggingface_hub import hub_mixin

    class Api:

        def __init__(self, token=None):
            assert token == 'secret'

        def create_repo(self, repo_id, **kwargs):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id, folder_path, **kwargs):
            shutil.copytree(folder_path, tmp_path / 'uploaded')
            return f'pushed {repo_id}'

    monkeypatch.setattr(hub_mixin, 'HfApi', Api)
    pushed = classifier.push_to_hub('me/ants', token='secret')
    assert pushed == 'pushed me/ants'
    assert sorted(p.name for p in (tmp_path / 'uploaded').iterdir()) == [
        'README.md', 'config.json', 'model.safetensors'
    ]
    assert from_pretrained(tmp_path / 'uploaded').classes[0] == 'ant'
    assert '# ants' in (tmp_path / 'uploaded' / 'README.md').read_text()


def test_create_model_takes_a_folder(classifier, images, tmp_path):
    classifier.save_pretrained(tmp_path / 'ants')
    for source in (tmp_path / 'ants', tmp_path / 'ants/model.safetensors'):
        net = create_model('resnet18', source, **SETTINGS)
        assert same(net(images), classifier.eval()(images))
        assert net.policy.thresholds == (0.75, 0.6, 0.5)
    assert json.loads(
        (tmp_path / 'ants/config.json').read_text())['kind'] == 'network'


def test_ensembles_and_certificates_come_back(net, images, tmp_path):
    weights = [[1], [0.5, 0.5], [0.2, 0.3, 0.5], [0.1, 0.2, 0.3, 0.4]]
    promise = dict(
        risk='disagreement',
        max_risk=0.1,
        certainty=0.9,
        observed=0.02,
        num_images=500,
        thresholds=[0.6, 0.6, 0.6])
    point = OperatingPoint((0.6, 0.6, 0.6),
                           ensemble=dict(kind='average', weights=weights),
                           certificate=promise)
    classifier = ImageClassifier.of(net, operating_points=[point])
    classifier.save_pretrained(tmp_path / 'a')
    found = from_pretrained(tmp_path / 'a')
    assert found.policy.settings == classifier.policy.settings
    assert found.policy.certificate == promise
    assert found.operating_points == [point]
    assert same(found.predict(images), classifier.predict(images))
    card = (tmp_path / 'a/README.md').read_text()
    assert 'exits answer together (average)' in card
    assert 'certified with 90 % certainty: disagreement' in card
    # Thresholds of one's own promise nothing.
    found.policy.set_thresholds((0.5, 0.5, 0.5))
    found.save_pretrained(tmp_path / 'b')
    assert not from_pretrained(tmp_path / 'b').policy.certificate
