# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracies beside configs."""
from pathlib import Path

import pytest

from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts.model_index import metafile_top1, torchvision_top1

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'imagenet'


@pytest.mark.parametrize('name, top1', [
    ('dyn-perceiver_regnety-800mf_8xb128_in1k', (68.62, 78.32, 79.15, 79.86)),
    ('multi-exit_regnety-800mf_8xb128_in1k', (72.4, 75.8)),
    ('static_regnety-800mf_8xb128_in1k', (77.0, )),
])
def test_of_the_paper(name, top1):
    assert metafile_top1(CONFIGS / f'{name}.py') == top1


def test_without_exits(tmp_path):
    (tmp_path / 'metafile.yml').write_text('''Models:
- Config: configs/a.py
  Results: [{Metrics: {Top 1 Accuracy: 70.5, Top 5 Accuracy: 90}}]
- Config: configs/b.py
''')
    assert metafile_top1(tmp_path / 'a.py') == (70.5, )
    for name in ('b.py', 'c.py'):
        with pytest.raises(InputError, match=f'no accuracy of {name}'):
            metafile_top1(tmp_path / name)


def test_no_metafile(tmp_path):
    with pytest.raises(InputError, match='no metafile.yml.*a.py'):
        metafile_top1(tmp_path / 'a.py')


def test_of_torchvision():
    assert torchvision_top1('regnet_y_3_2gf') == (78.948, )
    for name in ('vit_h_14', 'resnet7'):  # without such weights; unknown
        with pytest.raises(InputError, match=f'no accuracy of {name!r}'):
            torchvision_top1(name)
