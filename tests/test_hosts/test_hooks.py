# Copyright (c) mmdynperceiver contributors. All rights reserved.
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseTTAModel, ImgDataPreprocessor
from mmengine.registry import HOOKS, MODEL_WRAPPERS
from torch import nn

from mmdynperceiver.core import DynPerceiver, capture_segments
from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts.hooks import InferenceModeHook
from mmdynperceiver.hosts.wrappers import unwrap_model


class Model(nn.Module):

    def __init__(self, num_classes=2):
        super().__init__()
        self.evaluate_all_exits = False
        self.head = nn.Module()
        self.head.num_classes = num_classes


class Wrapper(nn.Module):

    def __init__(self, module):
        super().__init__()
        self.module = module


class TTA(BaseTTAModel):

    def merge_preds(self, data_samples_list):
        raise NotImplementedError


class Net(DynPerceiver):
    """What may be augmented."""

    def __init__(self):
        super().__init__('resnet18', width=0.25, num_latents=8, num_classes=2)

    def test_step(self, data):
        raise NotImplementedError


@pytest.fixture
def wrapped(monkeypatch):
    """A model in something that mmengine takes as a wrapper."""
    monkeypatch.setitem(MODEL_WRAPPERS.module_dict, 'TestWrapper', Wrapper)
    return Wrapper(Model())


def data(classes, **attributes):
    dataset = SimpleNamespace(
        metainfo=dict(classes=classes) if classes else {}, **attributes)
    return SimpleNamespace(dataset=dataset)


def wrap(loader):
    """What repeats a data set knows nothing of its labels."""
    return data(None, dataset=loader.dataset)


def runner(model, train=None, val=None, test=None):
    return SimpleNamespace(
        model=model,
        train_dataloader=train,
        val_dataloader=val,
        val_loop=val,
        hooks=[],
        test_dataloader=test,
        logger=logging.getLogger('test'))


def test_unwrap(wrapped):
    assert unwrap_model(wrapped) is wrapped.module
    assert unwrap_model(wrapped.module) is wrapped.module


@pytest.mark.parametrize('phase', ['val', 'test'])
@pytest.mark.parametrize('switch', [True, False])
def test_all_exits_only_while_metrics_watch(wrapped, phase, switch):
    model = wrapped.module
    hook = HOOKS.build(dict(type='EvaluateAllExitsHook', **{phase: switch}))
    run = runner(wrapped)
    hook.before_train(run)
    assert not model.evaluate_all_exits
    getattr(hook, f'before_{phase}')(run)
    assert model.evaluate_all_exits is switch
    getattr(hook, f'after_{phase}')(run)
    assert not model.evaluate_all_exits


def test_refuses_a_model_without_exits():
    hook = HOOKS.build(dict(type='EvaluateAllExitsHook'))
    run = runner(nn.Linear(1, 1), val=data(None))
    for phase in ('train', 'val', 'test'):
        with pytest.raises(InputError, match='got Linear'):
            getattr(hook, f'before_{phase}')(run)
    # Nothing is evaluated: a host's tool draws the learning rate in this way.
    run.val_loop = None
    hook.before_train(run)


@pytest.mark.parametrize('train, val, message', [
    (data(['a', 'b', 'c']), None, "3 classes \\('a', 'b', 'c'\\).* has 2"),
    (data(['a', 'b']), data(['a']), 'val data have 1 classes'),
    (data(['a', 'b']), data(['a', 'c']), "missing: 'b'; unknown: 'c'"),
    (data(['a', 'b']), data(['b', 'a']), 'order differs'),
    (data(None, num_labels=3), None, 'labels up to 2'),
    (wrap(data(['a', 'b', 'c'])), None, "3 classes"),
    (wrap(data(None, num_labels=3)), None, 'labels up to 2'),
])
def test_data_that_do_not_fit(train, val, message):
    hook = HOOKS.build(dict(type='CheckDataHook'))
    with pytest.raises(InputError, match=message):
        hook.before_train(runner(Model(), train, val))


@pytest.mark.parametrize('train, val', [
    (data(['a', 'b']), data(['a', 'b'])),
    (data(['a', 'b']), None),
    (data(None, num_labels=2), data(['a', 'b'])),
    (data(None), data(None)),
])
def test_data_that_fit(wrapped, train, val):
    hook = HOOKS.build(dict(type='CheckDataHook'))
    assert hook.before_train(runner(wrapped, train, val)) is None


def test_validation_and_test_data_are_checked():
    hook = HOOKS.build(dict(type='CheckDataHook'))
    run = runner(Model(), val=data(['a']), test=data(['a']))
    with pytest.raises(InputError, match='the val data'):
        hook.before_val(run)
    with pytest.raises(InputError, match='the test data'):
        hook.before_test(run)


def test_classes_are_those_of_the_checkpoint():
    model = Model()
    loaded = dict(meta=dict(dataset_meta=dict(classes=('a', 'b'))))

    def check(phase, **loaders):
        hook = HOOKS.build(dict(type='CheckDataHook'))
        run = runner(model, **loaders)
        run._resume = phase == 'resume'
        hook.after_load_checkpoint(run, loaded)
        hook.before_train(run) if run._resume or phase == 'train' else \
            getattr(hook, f'before_{phase}')(run)

    for phase in ('val', 'test'):
        check(phase, **{phase: data(['a', 'b'])})
        with pytest.raises(InputError, match="missing: 'a'; unknown: 'c'"):
            check(phase, **{phase: data(['b', 'c'])})
    # A checkpoint may be the start of learning other classes.
    check('train', train=data(['c', 'd']))
    with pytest.raises(InputError, match='other classes than the checkpoint'):
        check('resume', train=data(['c', 'b']))


def test_skipped_files_are_reported(caplog):
    hook = HOOKS.build(dict(type='CheckDataHook'))
    hook.after_train_epoch(
        runner(Model(), train=data(['a', 'b'], num_broken=3)))
    assert '3 broken training images' in caplog.text


def test_inference_mode_is_for_the_test_alone():
    net = DynPerceiver('resnet18', width=0.25, num_latents=8, num_classes=2)
    runner = SimpleNamespace(model=net)
    hook = InferenceModeHook('prepared', (64, 64))
    hook.before_test_iter(runner, 0, {})
    prepared = runner.model
    assert prepared is not net
    with pytest.raises(RuntimeError, match='cannot be trained'):
        runner.model.train()
    hook.before_test_iter(runner, 1, {})
    assert runner.model is prepared
    hook.after_test_epoch(runner)
    assert runner.model is net
    net.train()
    with pytest.raises(ValueError, match="got 'fast'"):
        InferenceModeHook('fast')


def test_captured_graphs_tell_what_they_did(monkeypatch, caplog):
    monkeypatch.setattr(
        'mmdynperceiver.hosts.hooks.in_mode',
        lambda model, mode, size: capture_segments(model, (1, ), object))
    net = DynPerceiver('resnet18', width=0.25, num_latents=8, num_classes=2)
    run = SimpleNamespace(model=net, logger=logging.getLogger('mmengine'))
    hook = InferenceModeHook('graphs', (64, 64))
    hook.before_test_iter(run, 0, {})
    with pytest.warns(UserWarning, match='no whole sample'):
        run.model.predict(torch.empty(0, 3, 64, 64))
    with caplog.at_level('INFO', 'mmengine'):
        hook.after_test_epoch(run)
    assert '0 batches ran by them, 1 without (1 no whole' in caplog.text
    assert run.model is net


def test_inference_mode_takes_the_size_of_the_data():
    net = Net()
    net.data_preprocessor = ImgDataPreprocessor(pad_size_divisor=56)
    inputs = [torch.zeros(3, 50, 100), torch.zeros(3, 56, 90)]
    for model in (net, TTA(net)):
        runner = SimpleNamespace(model=model)
        hook = InferenceModeHook()
        data = dict(inputs=inputs)
        hook.before_test_iter(runner, 0, data)
        prepared = unwrap_model(runner.model)
        assert data['inputs'] is inputs and prepared is not net
        # 56x112 images: cells of 2x4 pixels at stride 4.
        kernel = prepared.trunk.stages[0].x2z.fixed_kernel
        assert kernel.shape[2:] == (6 + 2, 6 + 4)
        if model is not net:
            assert runner.model is model
        hook.after_test_epoch(runner)
        assert unwrap_model(runner.model) is net


def test_inference_mode_of_augmented_data():
    """Of several views of an image none is the size."""
    net = Net()
    runner = SimpleNamespace(model=TTA(net))
    hook = InferenceModeHook()
    views = [torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 96, 96)]
    hook.before_test_iter(runner, 0, dict(inputs=[views]))
    assert unwrap_model(runner.model) is not net


def test_evaluating_against_another_file(caplog):
    run = runner(Model(), test=data(('a', 'b'), ann_file='data/test.json'))
    metric = SimpleNamespace(ann_file='data/test.json')
    run.test_loop = SimpleNamespace(
        evaluator=SimpleNamespace(metrics=[metric]))
    hook = HOOKS.build(dict(type='CheckDataHook'))
    hook.before_test(run)
    assert not caplog.records
    metric.ann_file = 'data/train.json'
    hook.before_test(run)
    assert "'data/test.json', and they are evaluated against " \
        "'data/train.json'" in caplog.text
