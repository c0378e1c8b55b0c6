# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The demo's config through MMDetection's runner, on a few scenes."""
import json

import mmdet
import pytest
import torch
from host_tools import run_host_tool
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tiny_detector import DEMO_CONFIG, TRUNK, make_scenes

from mmdynperceiver.cli.common import build_runner
from mmdynperceiver.errors import InputError


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp('data') / 'scenes')


def config(tmp_path, scenes, early=True):
    cfg = Config.fromfile(str(DEMO_CONFIG))
    cfg.work_dir = str(tmp_path)
    # mmengine keeps the first visualizer of a name for the whole process.
    cfg.visualizer.name = tmp_path.name
    cfg.model.backbone = dict(type='DynPerceiverDetBackbone', **TRUNK)
    cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = 1
    for name in ('train', 'val', 'test'):
        loader = cfg[f'{name}_dataloader']
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(scenes)
        if name != 'train':
            cfg[f'{name}_evaluator'].ann_file = str(scenes /
                                                    f'annotations/{name}.json')
    # Boxes come out before anything is learned.
    cfg.model.test_cfg.score_thr = 0.
    if not early:
        cfg.model.type = 'RetinaNet'
        for name in ('val', 'test'):
            cfg[f'{name}_evaluator'].type = 'CocoMetric'
        cfg.custom_hooks = [dict(type='CheckDataHook')]
        cfg.default_hooks.checkpoint.save_best = None
    return cfg


def run(cfg):
    with DefaultScope.overwrite_default_scope('mmdet'):
        # As the tools do.
        runner = build_runner(cfg, ('train', 'val'))
        runner.train()
        return runner, runner.test()


def test_trains_and_tests_all_exits(tmp_path, scenes):
    runner, metrics = run(config(tmp_path, scenes))
    assert runner.iter == 2
    for name in ('exit0', 'exit1', 'exit2', 'dynamic'):
        assert f'{name}/bbox_mAP' in metrics
    assert metrics['exit2/share'] == 1
    assert metrics['dynamic/macs'] == metrics['exit2/macs'] > metrics[
        'exit0/macs']
    assert not runner.model.evaluate_all_exits
    drawn, = tmp_path.glob('*/vis_data/vis_image/accuracy_macs_*')
    assert drawn.name == 'accuracy_macs_1.png'
    # The shipped warm-up takes 100 steps, this run two.
    assert runner.param_schedulers[1].end == 2
    assert runner.optim_wrapper.get_lr()['lr'][0] < 6e-4


@pytest.mark.parametrize('early', [True, False])
def test_inferencer_says_where_images_stopped(tmp_path, scenes, early):
    """In its plain results, and in the files that it writes."""
    from mmdet.apis import DetInferencer
    inferencer = DetInferencer(
        config(tmp_path, scenes, early), device='cpu', show_progress=False)
    if early:
        inferencer.model.policy.set_thresholds((2, 0))
    image = sorted((scenes / 'val').glob('*.*'))[0]
    out = tmp_path / 'out'
    found, = inferencer(
        str(image), out_dir=str(out), no_save_vis=True,
        no_save_pred=False)['predictions']
    assert json.loads((out / f'preds/{image.stem}.json').read_text()) == found
    assert len(found['bboxes']) == len(found['scores']) > 0
    if not early:
        assert 'exit_index' not in found
        return
    sample, = inferencer(str(image), return_datasamples=True)['predictions']
    assert found['exit_index'] == 1 == sample.exit_index
    assert found['macs'] == sample.macs > 1e6
    assert 0 <= found['exit_confidence'] <= 1


def test_hosts_own_tools(tmp_path, scenes, monkeypatch):
    """Test, confusion matrix, error analysis, MACs, and the data set."""
    monkeypatch.chdir(tmp_path)
    cfg = config(tmp_path, scenes)
    cfg.test_evaluator.outfile_prefix = str(tmp_path / 'found')
    path, found = tmp_path / 'tiny.py', tmp_path / 'found.pkl'
    cfg.dump(path)
    runner = build_runner(cfg, ('train', 'val'))
    torch.save(
        dict(state_dict=runner.model.state_dict()), tmp_path / 'model.pth')

    def run_tool(name, *args):
        return run_host_tool(mmdet, name, *args)

    run_tool('test.py', path, tmp_path / 'model.pth', '--work-dir', tmp_path,
             '--out', found)
    run_tool('analysis_tools/confusion_matrix.py', path, found, tmp_path)
    assert (tmp_path / 'confusion_matrix.png').is_file()
    json_file, = tmp_path.glob('found*bbox.json')
    # It draws for each category, so here are two.
    truth = json.loads((scenes / 'annotations/test.json').read_text())
    del truth['categories'][2:]
    known = [category['id'] for category in truth['categories']]
    truth['annotations'] = [
        box for box in truth['annotations'] if box['category_id'] in known
    ]
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    run_tool('analysis_tools/coco_error_analysis.py', json_file,
             tmp_path / 'errors', '--ann', tmp_path / 'truth.json')
    assert list((tmp_path / 'errors').rglob('*.png'))
    flops = run_tool('analysis_tools/get_flops.py', path, '--num-images', 2)
    assert 'Flops: ' in flops
    run_tool('analysis_tools/browse_dataset.py', path, '--output-dir',
             tmp_path / 'shown', '--not-show')
    assert list((tmp_path / 'shown').rglob('*.*'))


def test_static_detector(tmp_path, scenes):
    _, metrics = run(config(tmp_path, scenes, early=False))
    assert 'coco/bbox_mAP' in metrics


def test_classes_that_do_not_match_the_head(tmp_path, scenes):
    cfg = config(tmp_path, scenes)
    cfg.model.bbox_head.num_classes = 3
    with pytest.raises(InputError, match='have 10 classes .* model has 3'):
        run(cfg)
