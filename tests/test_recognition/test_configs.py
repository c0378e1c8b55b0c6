# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Configs of video data sets."""
import pytest
import torch
from mmaction.registry import DATASETS, MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from tiny import ROOT

import mmdynperceiver.recognition  # noqa: F401
from mmdynperceiver.recognition import ShiftedConv2d

LEAVES = sorted(
    path for name in ('sthv1', 'sthv2', 'kinetics400')
    for path in (ROOT / 'configs' / name).glob('*.py'))
W0625 = 'dyn-perceiver-tsm_in1k-pre-resnet50-w0625-n128_8xb8-1x1x8-50e'
STHV1 = ROOT / f'configs/sthv1/{W0625}_sthv1-rgb.py'


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_builds_what_the_name_says(path):
    config = Config.fromfile(path)
    model = MODELS.build(config.model)
    _, pre, _, data = path.stem.split('_')
    width, latents = pre.split('-')[-2:]
    net = model.backbone.net
    assert len(net.latents) == int(latents[1:])
    # '0625' is 0.625, '050' is 0.5.
    assert net.channels[4] == int(2048 * float(f'0.{width[2:]}'))
    classes = 400 if data.startswith('kinetics400') else 174
    assert model.cls_head.num_classes == classes
    shifts = [m for m in model.modules() if isinstance(m, ShiftedConv2d)]
    assert [m.num_segments for m in shifts] == [8] * 16
    start = config.model.backbone.init_cfg
    assert start.prefix == 'backbone.'
    assert f'resnet50-{width}_' in start.checkpoint


def test_a_step_with_a_small_trunk():
    """Head, loss and optimiser are those of the config."""
    config = Config.fromfile(STHV1)
    config.model.backbone.update(width=0.125, num_latents=8)
    model = MODELS.build(config.model).train()
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    data = dict(
        inputs=[torch.randint(256, (8, 3, 32, 32)).byte() for _ in range(2)],
        data_samples=[ActionDataSample().set_gt_label(k) for k in range(2)])
    before = [p.detach().clone() for p in model.parameters()]
    losses = model.train_step(data, optim_wrapper)
    assert all(loss.isfinite() for loss in losses.values())
    changed = {
        name
        for (name, after), old in zip(model.named_parameters(), before)
        if not torch.equal(after, old)
    }
    assert 'backbone.net.stages.0.conv.0.bn1.weight' not in changed  # frozen
    assert {
        'backbone.net.latents', 'backbone.net.stages.1.conv.0.conv1.weight',
        'cls_head.exits.classifiers.0.weight'
    } <= changed


def test_optimizer_of_tsm():
    config = Config.fromfile(STHV1)
    model = MODELS.build(config.model)
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for p in group['params']
    }
    assert found['backbone.net.stages.1.conv.0.conv1.weight'] == (0.01, 5e-4)
    assert found['backbone.net.stem.1.weight'] == (0.01, 0)
    assert found['backbone.net.latents'] == (0.01, 5e-4)
    assert found['cls_head.exits.fkt.0.0.bias'] == (0.02, 0)
    assert found['cls_head.exits.classifiers.0.weight'] == (0.05, 5e-4)
    # All but the first batch norm of the feature branch are frozen.
    assert not model.backbone.net.stages[0].conv[0].bn1.weight.requires_grad


@torch.no_grad()
def test_six_views():
    """Two samples and three crops of 8 frames decide together."""
    path = STHV1.with_name(f'{W0625}-6views_sthv1-rgb.py')
    config = Config.fromfile(path)
    sample = config.test_dataloader.dataset.pipeline[0]
    assert sample.twice_sample and sample.num_clips == 8
    assert config.val_dataloader.dataset.pipeline[0].get(
        'twice_sample') is None
    config.model.backbone.update(width=0.125, num_latents=8)
    model = MODELS.build(config.model).eval()
    found = model.predict(
        torch.rand(1, 48, 3, 32, 32), [ActionDataSample().set_gt_label(0)])
    assert found[0].pred_score.shape == (174, )


def test_pipelines_on_files(videos, frame_folders):
    """Each data set's own transforms, on tiny videos or frame folders."""
    for path in LEAVES:
        config = Config.fromfile(path)
        for loader in (config.train_dataloader, config.test_dataloader):
            dataset = loader.dataset
            frames = dataset.type == 'CheckedRawframeDataset'
            dataset.data_root = str(frame_folders if frames else videos)
            dataset.ann_file = 'list.txt'
            dataset.data_prefix = dict(img='') if frames else dict(video='')
            item = DATASETS.build(dataset)[4]
            views, size = (48, 256) if '6views' in path.stem and \
                loader is config.test_dataloader else (8, 224)
            assert item['inputs'].shape == (views, 3, size, size), path.stem


def test_mirror_changes_labels(frame_folders, tmp_path):
    """'Left to right' becomes 'right to left', and back."""
    config = Config.fromfile(STHV1)
    flip = [
        step for step in config.train_dataloader.dataset.pipeline
        if step.type == 'Flip'
    ][0]
    pairs = dict(flip.flip_label_map)
    assert pairs == {2: 4, 4: 2, 30: 41, 41: 30, 52: 66, 66: 52}
    flip.flip_ratio = 1.
    (tmp_path / 'list.txt').write_text('4 10 30\n4 10 31\n')
    dataset = config.train_dataloader.dataset
    dataset.update(
        data_root='',
        ann_file=str(tmp_path / 'list.txt'),
        data_prefix=dict(img=str(frame_folders)))
    built = DATASETS.build(dataset)
    labels = [built[i]['data_samples'].gt_label.item() for i in range(2)]
    assert labels == [41, 31]
