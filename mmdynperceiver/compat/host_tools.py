# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Exits in the hosts' scripts and inferencers, and runs shorter than warm-up.

The inferencers of MMPretrain, MMAction2 and MMDetection turn data samples into
dicts, of fields that they name one by one. Where a sample has left early, what
is known of that is added; results of other models stay as they are.
"""
from __future__ import annotations
import os.path as osp
from typing import Any

from .import_hooks import extends

# What an early-exit model writes into each data sample.
FIELDS = ('exit_index', 'exit_confidence', 'macs')


def exit_fields(sample: Any) -> dict:
    """What a data sample of any model knows of where it left."""
    return {name: sample.get(name) for name in FIELDS if name in sample}


@extends('mmpretrain.apis.image_classification',
         'ImageClassificationInferencer', 'postprocess')
def add_exits_to_images(module, inner, self, /, preds, *args, **kwargs):
    """Extend the results of MMPretrain's inferencer."""
    results = inner(self, preds, *args, **kwargs)
    for result, sample in zip(results, preds):
        if isinstance(result, dict):
            result.update(exit_fields(sample))
    return results


@extends('mmaction.apis.inferencers.actionrecog_inferencer',
         'ActionRecogInferencer', 'pred2dict')
def add_exits_to_videos(module, inner, self, data_sample):
    """Extend the results of MMAction2's inferencer of one task."""
    return {**inner(self, data_sample), **exit_fields(data_sample)}


@extends('mmaction.apis.inferencers.mmaction2_inferencer',
         'MMAction2Inferencer', 'postprocess')
def add_exits_to_tasks(module,
                       inner,
                       self,
                       preds,
                       visualization=None,
                       print_result=False,
                       pred_out_file=''):
    """Extend those of its inferencer of all tasks: ``rec_exit_index``, ..."""
    results = inner(self, preds)
    for row, samples in zip(results['predictions'], preds.get('rec', ())):
        for name in FIELDS:
            if all(name in sample for sample in samples):
                row[f'rec_{name}'] = [sample.get(name) for sample in samples]
    # As the host does, which has written nothing yet.
    del results['visualization']
    if print_result:
        print(results)
    if pred_out_file:
        module.mmengine.dump(results, pred_out_file)
    results['visualization'] = visualization
    return results


@extends('mmdet.apis.det_inferencer', 'DetInferencer', 'pred2dict')
def add_exits_to_boxes(module, inner, self, data_sample, pred_out_dir=''):
    """Extend the results of MMDetection's inferencer, and its files."""
    # The host names the file by the image, or else by this number.
    name = str(self.num_predicted_imgs)
    if data_sample.get('img_path'):
        name = osp.splitext(osp.basename(data_sample.img_path))[0]
    result = inner(self, data_sample, pred_out_dir)
    found = exit_fields(data_sample)
    result.update(found)
    if found and pred_out_dir:
        module.mmengine.dump(result,
                             osp.join(pred_out_dir, 'preds', f'{name}.json'))
    return result


@extends('pytorch_grad_cam.activations_and_gradients',
         'ActivationsAndGradients', '__call__')
def explain_last_exit(module, call, self, /, *args, **kwargs):
    """Give grad-cam, and so MMPretrain's vis_cam.py, the last exit's logits.

    A classifier with exits returns a tuple of logits, shallow to deep, where
    grad-cam expects one tensor. Other models are left alone.
    """
    logits = call(self, *args, **kwargs)
    return logits[-1] if hasattr(self.model, 'evaluate_all_exits') else logits


@extends('sklearn.manifold._t_sne', 'TSNE', '__init__')
def accept_n_iter(module, init, self, /, *args, n_iter=None, **kwargs):
    """Take what MMPretrain's vis_tsne.py passes, also as it is called now."""
    if n_iter is not None:
        import inspect
        known = 'n_iter' in inspect.signature(init).parameters
        kwargs['n_iter' if known else 'max_iter'] = n_iter
    init(self, *args, **kwargs)


@extends('mmengine.runner.runner', 'Runner', 'build_param_scheduler')
def fit_short_runs(module, build, self, scheduler):
    """Fit a schedule to a run that ends before a part of it begins.

    mmengine ends a run that is shorter than the warm-up with "end should be
    larger than begin". Our tools fit every schedule to its run; here the
    hosts' tools do so where mmengine would refuse it.
    """

    def begins_too_late(config: Any) -> bool:
        if not isinstance(config, dict) or 'end' in config:
            return False
        by_epoch = config.get('by_epoch', True)
        return config.get('begin', 0) >= (
            self.max_epochs if by_epoch else self.max_iters)

    configs = [scheduler] if isinstance(scheduler, dict) else scheduler
    if isinstance(configs, (list, tuple)) and \
            any(map(begins_too_late, configs)):
        from ..hosts.schedule import fit_schedule
        scheduler, text = fit_schedule(scheduler, self.max_iters,
                                       len(self.train_dataloader))
        if text:
            self.logger.info(text)
    return build(self, scheduler)
