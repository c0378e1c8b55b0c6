# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Configs, metafiles and tables stand together, and every config works."""
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config

pytest.importorskip('mmpretrain')

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(
    path for metafile in ROOT.glob('configs/*/metafile.yml')
    for path in metafile.parent.glob('*.py'))
# Those that a step of MMPretrain's runner is tried with here.
CLASSIFIERS = [
    path for path in CONFIGS if path.parent.name in ('imagenet', 'cifar')
]


def read_models():
    """All models of the files that model-index.yml imports."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    models = []
    for name in index['Import']:
        content = yaml.safe_load((ROOT / name).read_text())
        collections = {c['Name'] for c in content['Collections']}
        assert {m['In Collection'] for m in content['Models']} <= collections
        models += content['Models']
    return models


def test_figures_and_tables_are_up_to_date():
    tool = subprocess.run([sys.executable, 'tools/dev/model_zoo.py'],
                          cwd=ROOT,
                          capture_output=True,
                          text=True)
    assert tool.returncode == 0, tool.stdout + tool.stderr


def test_a_stale_table_is_seen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools/dev')
    import model_zoo
    folder = ROOT / 'configs/imagenet'
    content = yaml.safe_load((folder / 'metafile.yml').read_text())
    readme = (folder / 'README.md').read_text()
    assert model_zoo.with_table(readme, content) == readme
    content['Models'][0]['Metadata']['Parameters'] *= 2
    assert model_zoo.with_table(readme, content) != readme


def test_every_config_is_in_the_metafile_under_its_name():
    models = read_models()
    assert sorted(m['Config'] for m in models) == [
        str(path.relative_to(ROOT)) for path in CONFIGS
    ]
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert sorted(index['Import']) == [
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.glob('configs/*/metafile.yml'))
    ]
    assert all(m['Name'] == Path(m['Config']).stem for m in models)


def test_names_of_configs_are_unique():
    names = Counter(
        path.name for path in (ROOT / 'configs').rglob('*.py')
        if '_base_' not in path.parts)
    assert max(names.values()) == 1


@pytest.mark.parametrize('path', CLASSIFIERS, ids=lambda path: path.stem)
def test_every_config_trains_a_step_and_predicts(path):
    import mmpretrain.models  # noqa: F401
    from mmengine.optim import build_optim_wrapper
    from mmpretrain.registry import MODELS
    from mmpretrain.structures import DataSample

    config = Config.fromfile(path)
    num_classes = config.model.head.num_classes
    config.model.data_preprocessor = config.data_preprocessor
    model = MODELS.build(config.model)
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    size = 32 if path.parent.name == 'cifar' else 64
    data = dict(
        inputs=[torch.randint(256, (3, size, size)).byte() for _ in range(2)],
        data_samples=[DataSample().set_gt_label(k) for k in range(2)])
    before = [p.detach().clone() for p in model.parameters()]
    losses = model.train().train_step(data, optim_wrapper)
    assert all(loss.isfinite() for loss in losses.values())
    assert any(not torch.equal(a, b)
               for a, b in zip(before, model.parameters()))
    num_exits = model.policy.num_exits
    model.policy.set_thresholds((0.3, ) * (num_exits - 1))
    samples = model.eval().test_step(data)
    assert [len(sample.pred_score) for sample in samples] == [num_classes] * 2
    assert all(sample.exit_index in range(num_exits) for sample in samples)
