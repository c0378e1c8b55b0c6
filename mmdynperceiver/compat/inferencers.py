# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Exit and MACs in the plain results of the hosts' inferencers.

The inferencers of MMPretrain, MMAction2 and MMDetection turn data samples into
dicts, of fields that they name one by one. Where a sample has left early, what
is known of that is added; results of other models stay as they are.
"""
from __future__ import annotations
import contextlib
import functools
import os.path as osp
from types import ModuleType
from typing import Any, Callable

# What an early-exit model writes into each data sample.
FIELDS = ('exit_index', 'exit_confidence', 'macs')


def exit_fields(sample: Any) -> dict:
    """What a data sample knows of where it left.

    Args:
        sample (BaseDataElement): Of any model.

    Returns:
        dict: The fields of ``FIELDS`` that it has.
    """
    return {name: sample.get(name) for name in FIELDS if name in sample}


def extends(name: str, method: str) -> Callable[[Callable], Callable]:
    """Make a function take the place of a host's method, which it gets.

    Args:
        name (str): The host's class.
        method (str): Its method.

    Returns:
        Callable: Decorates a function of the host's module, the method as it
        was, and the method's own arguments; gives what extends the module.
    """

    def decorate(function: Callable) -> Callable:

        @contextlib.contextmanager
        @functools.wraps(function)
        def extend(module: ModuleType):
            yield
            kind = getattr(module, name)
            inner = getattr(kind, method)

            @functools.wraps(inner)
            def extended(*args, **kwargs):
                return function(module, inner, *args, **kwargs)

            setattr(kind, method, extended)

        return extend

    return decorate


@extends('ImageClassificationInferencer', 'postprocess')
def add_exits_to_images(module, inner, self, preds, *args, **kwargs):
    """Extend the results of MMPretrain's inferencer."""
    results = inner(self, preds, *args, **kwargs)
    for result, sample in zip(results, preds):
        if isinstance(result, dict):
            result.update(exit_fields(sample))
    return results


@extends('ActionRecogInferencer', 'pred2dict')
def add_exits_to_videos(module, inner, self, data_sample):
    """Extend the results of MMAction2's inferencer of one task."""
    return {**inner(self, data_sample), **exit_fields(data_sample)}


@extends('MMAction2Inferencer', 'postprocess')
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


@extends('DetInferencer', 'pred2dict')
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


EXTENSIONS = {
    'mmpretrain.apis.image_classification': add_exits_to_images,
    'mmaction.apis.inferencers.actionrecog_inferencer': add_exits_to_videos,
    'mmaction.apis.inferencers.mmaction2_inferencer': add_exits_to_tasks,
    'mmdet.apis.det_inferencer': add_exits_to_boxes,
}
