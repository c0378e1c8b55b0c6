# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What was chosen, as an ordinary config that ``train`` and ``test`` take."""
import os
from pathlib import Path
from typing import Any, Dict, List, Sequence

from mmengine.config import Config

from ..compat.model_hub import config_root
from .measure import early_exit_model
from .options import FitOptions
from .plan import Plan

__all__ = ['make_config']

RUNTIME = 'configs/_base_/default_runtime.py'
# Images that are much larger than the network's are cropped, as ImageNet's.
CROPPED = 1.5


def make_config(plan: Plan,
                options: FitOptions,
                classes: Sequence[str],
                side: float,
                work_dir: str,
                static: bool = False) -> Config:
    """The config of the network, or of its static twin.

    Args:
        plan (Plan): What was chosen.
        options (FitOptions): What the user has said.
        classes (Sequence[str]): Names of the classes.
        side (float): Median of the images' shorter edges.
        work_dir (str): Folder for logs and checkpoints.
        static (bool): Whether it is the twin's. Defaults to False.
    """
    config = Config.fromfile(os.path.join(config_root(), RUNTIME))
    backbone = plan.static if static else plan.backbone
    config.merge_from_dict(
        dict(
            custom_imports=dict(
                imports=['mmdynperceiver.classification'],
                allow_failed_imports=False),
            model=early_exit_model(backbone, len(classes)),
            # RGB, in pixels of 0 to 255, as torchvision's weights want them
            data_preprocessor=dict(
                num_classes=len(classes),
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                to_rgb=True),
            **_data(plan, options, classes, side),
            **_schedule(plan, options),
            work_dir=work_dir,
            randomness=dict(seed=options.seed)))
    config.custom_hooks = [
        *config.custom_hooks,
        dict(type='TimedScheduleHook', minutes=plan.minutes)
    ]
    config.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=1, max_keep_ckpts=1)
    config.default_hooks.logger.interval = 10
    # What the hook does.
    config.default_hooks.pop('param_scheduler')
    return config


def _data(plan: Plan, options: FitOptions, classes: Sequence[str],
          side: float) -> Dict[str, Any]:
    """Loaders and metrics of the three splits."""
    train, test = _pipelines(plan.image_size, options.flip, side)
    lists = Path(options.out).absolute() / 'data'

    def loader(split: str, pipeline: List[dict], sampler: dict) -> dict:
        return dict(
            batch_size=plan.batch_size if split == 'train' else 64,
            num_workers=0 if (os.cpu_count() or 1) < 2 else 1,
            persistent_workers=(os.cpu_count() or 1) > 1,
            collate_fn=dict(type='default_collate'),
            sampler=sampler,
            dataset=dict(
                type='CheckedImageFolder',
                ann_file=str(lists / f'{split}.txt'),
                classes=list(classes),
                test_mode=split != 'train',
                pipeline=pipeline))

    in_order = dict(type='DefaultSampler', shuffle=False)
    metric = dict(type='EarlyExitMetric', topk=(1, ))
    return dict(
        train_dataloader=loader(
            'train', train,
            dict(
                type='SlicedSampler',
                num_samples=plan.samples,
                seed=options.seed)),
        val_dataloader=loader('val', test, in_order),
        test_dataloader=loader('test', test, in_order),
        val_evaluator=metric,
        test_evaluator=metric)


def _pipelines(size: int, flip: bool, side: float) -> List[List[dict]]:
    """Transforms of training, and of everything else."""
    load = dict(type='LoadImageFromFile', imdecode_backend='pillow')
    how = dict(backend='pillow', interpolation='bicubic')
    crop = dict(
        type='RandomResizedCrop',
        scale=size,
        crop_ratio_range=(0.4, 1.),
        **how)
    mirror = dict(type='RandomFlip', prob=0.5, direction='horizontal')
    edge = round(size * 8 / 7) if side >= CROPPED * size else size
    pack = dict(type='PackInputs')
    return [[load, crop, *([mirror] if flip else []), pack],
            [
                load,
                dict(type='ResizeEdge', scale=edge, edge='short', **how),
                dict(type='CenterCrop', crop_size=size), pack
            ]]


def _schedule(plan: Plan, options: FitOptions) -> Dict[str, Any]:
    """The optimizer, and how long it goes on."""
    # What is pretrained: the stem and each stage's convolutions.
    branch = dict(lr_mult=plan.branch_lr)
    names = [
        'backbone.net.stem',
        *(f'backbone.net.stages.{k}.conv' for k in range(4))
    ]
    return dict(
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=plan.lr, weight_decay=0.02),
            clip_grad=dict(max_norm=5.),
            paramwise_cfg=dict(
                flat_decay_mult=0., custom_keys=dict.fromkeys(names, branch))),
        train_cfg=dict(
            by_epoch=True, max_epochs=plan.epochs, val_interval=plan.epochs),
        val_cfg=dict(),
        test_cfg=dict())
