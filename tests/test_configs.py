# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Configs of image classification."""
import pytest
import torch

pytest.importorskip('mmpretrain')

from mmengine import registry  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmpretrain.registry import DATASETS, MODELS  # noqa: E402
from tiny import IMAGENET_CONFIG, ROOT, make_image_folder  # noqa: E402

from mmdynperceiver.core import DynPerceiver, available_archs  # noqa: E402

LEAVES = sorted((ROOT / 'configs/imagenet').glob('*.py'))


@pytest.fixture(autouse=True)
def scope():
    with registry.DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def read(path=IMAGENET_CONFIG):
    return Config.fromfile(str(path))


def build(config):
    config.model.data_preprocessor = config.data_preprocessor
    return MODELS.build(config.model)


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_builds(path):
    config = read(path)
    registry.init_default_scope(config.default_scope)
    model = build(config)
    assert model.head.num_classes == 1000
    for hook in config.custom_hooks:
        registry.HOOKS.build(hook)
    registry.METRICS.build(config.val_evaluator)
    # The name says how many images a step has, and epochs other than 300.
    images, _, epochs = path.stem.split('_')[-2].partition('-')
    gpus, _, batch = images.partition('xb')
    assert config.train_cfg.max_epochs == int(epochs[:-1] or 300)
    assert 'end' not in config.param_scheduler[-1]  # it follows the run
    assert config.train_dataloader.batch_size == int(batch)
    assert config.auto_scale_lr.base_batch_size == int(gpus) * int(batch)
    assert len(path.read_text().splitlines()) <= 40


def test_is_the_published_network():
    model = build(read())
    expected = DynPerceiver('regnety-800mf')
    count = sum(p.numel() for p in model.parameters())
    assert count == sum(p.numel() for p in expected.parameters())


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
        expected = 0.05 if parameter.ndim > 1 else 0
        assert decay[name] == expected, name
    assert decay['backbone.net.latents'] == 0.05
    assert decay['backbone.net.stages.0.x2z.attn.position_bias'] == 0.05
    assert decay['backbone.net.stem.1.weight'] == 0
    assert optimizer.defaults['betas'] == (0.9, 0.999)


def test_learning_rate_over_the_epochs():
    config = read()
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter],
                                  lr=config.optim_wrapper.optimizer.lr)
    schedulers = []
    for scheduler in config.param_scheduler:
        options = dict(scheduler, optimizer=optimizer, epoch_length=5)
        options.pop('convert_to_iter_based')
        # As mmengine fills it in.
        options.setdefault('end', config.train_cfg.max_epochs)
        kind = registry.PARAM_SCHEDULERS.get(options.pop('type'))
        schedulers.append(kind.build_iter_from_epoch(**options))
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
    assert config.train_cfg.max_epochs == 300
    assert 'clip_grad' not in config.optim_wrapper
    augments = {a.type: a.alpha for a in config.model.train_cfg.augments}
    assert augments == dict(Mixup=0.8, CutMix=1.0)
    assert config.model.train_cfg.get('probs') is None  # one or the other


def test_one_step_on_real_files(tmp_path):
    config = read()
    root = make_image_folder(tmp_path, per_class=1, size=48)
    config.model.head.num_classes = 3
    model = build(config).train()
    loaders = (config.train_dataloader, config.val_dataloader)
    train, val = (
        DATASETS.build(dict(loader.dataset, data_root=str(root)))
        for loader in loaders)
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


def test_an_unknown_arch_lists_the_known():
    config = read()
    config.model.backbone.arch = 'regnety-1mf'
    with pytest.raises(ValueError) as caught:
        build(config)
    assert all(arch in str(caught.value) for arch in available_archs())
