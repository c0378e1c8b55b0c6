# Copyright (c) mmdynperceiver contributors. All rights reserved.
# MMPretrain's own file serves as well, but `mmpretrain::` fails under its
# tools where setuptools no longer brings pkg_resources.
default_scope = 'mmpretrain'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        interval=1,
        max_keep_ckpts=3,
        # Without thresholds every sample takes the last exit.
        save_best='dynamic/top1'),
    # What is loaded or resumed from must fit.
    check_checkpoint=dict(type='CheckCheckpointHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', enable=False))

custom_hooks = [
    # Metrics see all exits; the data are checked before the first step.
    dict(type='EvaluateAllExitsHook'),
    dict(type='CheckDataHook'),
    # Accuracy against MACs, as a picture of each validation.
    dict(type='ExitCurveHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

# All processes evaluate with the batch norms' statistics of the first one,
# which are those that the checkpoint holds.
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel', broadcast_buffers=True)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)

log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=None, deterministic=False)
