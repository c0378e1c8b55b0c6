# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Configs: families, names and recipes; a step with each classifier."""
import ast
import re
from collections import Counter

import pytest
import torch

pytest.importorskip('mmpretrain')

from mmengine import registry  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmpretrain.registry import DATASETS, MODELS  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402
from tiny import IMAGENET_CONFIG, ROOT, make_image_folder  # noqa: E402

import mmdynperceiver.classification  # noqa: E402, F401

LEAVES = sorted((ROOT / 'configs').glob('[!_]*/*.py'))
# Of which a step is tried here; videos and detectors have their own tests, and
# the largest of the field are the smallest with more layers.
CLASSIFIERS = [
    path for path in LEAVES if path.parent.name in
    ('imagenet', 'latency_first', 'cifar', 'folder', 'msdnet', 'ranet',
     'resolution_cascade', 'conv_aig', 'skipnet') and not any(
         large in path.stem for large in
         ('step6', 'step7', '1223', '1233-linear', '1234', 'resnet101',
          'resnet110')) or path.stem.endswith('digits')
]
# Epochs where the name does not say them.
EPOCHS = dict(imagenet=300, latency_first=300, resolution_cascade=300, coco=12)


@pytest.fixture(autouse=True)
def scope():
    with registry.DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def read(path=IMAGENET_CONFIG):
    """Read a config; no host but the one of its bases is needed."""
    return Config.fromfile(path, import_custom_modules=False)


def build(config):
    config.model.data_preprocessor = config.data_preprocessor
    return MODELS.build(config.model)


def family(path):
    """What configs that inherit each other have in common."""
    model = read(path).model
    arch = str(model.backbone.get('arch')).split('-')[0]
    return model.type, model.backbone.type, arch


def bases_of(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == '_base_':
            value = ast.literal_eval(node.value)
            return [value] if isinstance(value, str) else value
    return []


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_inherits_from_bases_and_its_own_family(path):
    bases = bases_of(path)
    for leaf in (path.parent / name for name in bases if '_base_' not in name):
        assert leaf.parent == path.parent
        assert family(leaf) == family(path)
    models = [name for name in bases if '_base_/models/' in name]
    assert len(models) <= 1
    text = path.read_text()
    assert '_delete_' not in text and len(text.splitlines()) <= 40


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_trains_as_the_name_says(path):
    config, folder = read(path), path.parent.name
    named = re.search(r'_(\d+)xb(\d+)(?:-1x1x\d+)?(?:-(\d+)e)?', path.stem)
    gpus, batch, epochs = named.groups() if named else (8, 2, None)
    assert config.train_dataloader.batch_size == int(batch)
    if 'auto_scale_lr' in config:
        base = config.auto_scale_lr.base_batch_size
        assert base == int(gpus) * int(batch)
    if folder != 'demo':
        assert config.train_cfg.max_epochs == int(epochs or EPOCHS[folder])
    last = config.param_scheduler[-1]
    # A cosine follows the run, however long it is.
    assert (last.type == 'CosineAnnealingLR') == ('end' not in last)


def test_names_are_unique():
    names = Counter(path.name for path in LEAVES)
    assert max(names.values()) == 1


@pytest.mark.parametrize('path', CLASSIFIERS, ids=lambda path: path.stem)
def test_trains_a_step_and_predicts(path):
    config = read(path)
    for hook in config.custom_hooks:
        registry.HOOKS.build(hook)
    registry.METRICS.build(config.val_evaluator)
    num_classes = 1000 if path.stem.endswith('in1k') else \
        100 if path.stem.endswith('cifar100') else 10
    model = build(config)
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    size = 32 if 'cifar' in path.stem else 64
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


def test_what_is_decayed():
    config = read()
    model = build(config)
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    decay = {
        names[id(p)]: group['weight_decay']
        for group in optimizer.param_groups
        for p in group['params']
    }
    assert len(decay) == len(names)
    for name, parameter in model.named_parameters():
        assert decay[name] == (0.05 if parameter.ndim > 1 else 0), name
    assert decay['backbone.net.latents'] == 0.05
    assert decay['backbone.net.stages.0.x2z.attn.position_bias'] == 0.05
    assert decay['backbone.net.stem.1.weight'] == 0
    assert optimizer.defaults['betas'] == (0.9, 0.999)


def test_learning_rate_over_the_epochs():
    config = read()
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))],
                                  lr=config.optim_wrapper.optimizer.lr)
    schedulers = [
        registry.PARAM_SCHEDULERS.build(
            # The end as mmengine fills it in.
            dict(dict(end=config.train_cfg.max_epochs), **scheduler),
            default_args=dict(optimizer=optimizer, epoch_length=5))
        for scheduler in config.param_scheduler
    ]
    rates = []
    for _ in range(300 * 5):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(1e-6)
    assert rates[50] == pytest.approx(5e-4, rel=0.02)  # half of the warm-up
    assert max(rates) == pytest.approx(1e-3, rel=1e-3)
    assert rates.index(max(rates)) in (99, 100)
    assert rates[800] == pytest.approx((1e-3 + 1e-6) / 2, rel=0.01)
    assert rates[-1] == pytest.approx(1e-6, rel=0.05)
    assert len(set(rates[100:110])) == 10  # changes with each iteration


def test_recipe():
    config = read()
    average = [h for h in config.custom_hooks if 'EMAHook' in h.type][0]
    assert 1 - average.momentum == pytest.approx(0.9999)
    assert average.update_buffers
    assert config.model.head.loss.label_smooth_val == 0.1
    assert 'clip_grad' not in config.optim_wrapper
    augments = {a.type: a.alpha for a in config.model.train_cfg.augments}
    assert augments == dict(Mixup=0.8, CutMix=1.0)
    assert config.model.train_cfg.get('probs') is None  # one or the other


def test_one_step_on_real_files(tmp_path):
    config = read()
    root = make_image_folder(tmp_path, per_class=1, size=48)
    config.model.head.num_classes = 3
    model = build(config).train()
    train, val = (
        DATASETS.build(dict(loader.dataset, data_root=str(root)))
        for loader in (config.train_dataloader, config.val_dataloader))
    batch = [train[0], train[1]]
    batch = dict(
        inputs=torch.stack([item['inputs'] for item in batch]),
        data_samples=[item['data_samples'] for item in batch])
    assert batch['inputs'].shape == (2, 3, 224, 224)
    data = model.data_preprocessor(batch, training=True)
    assert data['data_samples'][0].gt_score.shape == (3, )
    losses = model(**data, mode='loss')
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert val[0]['inputs'].shape == (3, 224, 224)
