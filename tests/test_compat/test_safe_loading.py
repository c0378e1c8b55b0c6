# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Checkpoints of mmengine are loaded, and loaded safely."""
import sys
import zipfile

import pytest

from mmdynperceiver.compat.safe_loading import checkpoint_globals
from .conftest import PATCH, require

TRAIN = '''
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner

class Data(TensorDataset):
    metainfo = dict(palette=np.zeros((2, 3), np.uint8), classes=('a', 'b'))

class Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
    def forward(self, inputs, labels, mode='tensor'):
        logits = self.layer(inputs)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        return dict(loss=loss, acc=loss.detach()) if mode == 'loss' else [0]

class Accuracy(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(1)
    def compute_metrics(self, results):
        return dict(top1=np.float64(1), top5=np.float32(1), n=np.int64(2))

def train(epochs, resume=False):
    data = DataLoader(Data(torch.randn(8, 4), torch.arange(8) % 2), 4)
    runner = Runner(
        Net(), 'work', data, data, val_cfg=dict(), val_evaluator=[Accuracy()],
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=SCHEDULES, custom_hooks=HOOKS,
        default_hooks=dict(checkpoint=dict(
            type='CheckpointHook', interval=1, save_best='top1')),
        resume=resume, log_level='ERROR')
    runner.train()
    return runner
'''
ONE_CYCLE = [
    dict(type='OneCycleLR', eta_max=0.1, total_steps=8, by_epoch=False)
]
WARM_UP_AND_COSINE = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
    dict(type='CosineAnnealingLR', T_max=4, by_epoch=True)
]
LOAD = ("import torch\n"
        "import mmengine.runner.checkpoint\n"
        "state = torch.load('work/epoch_1.pth', weights_only=True)\n"
        "assert state['meta']['epoch'] == 1\n")


@pytest.fixture
def checkpoint(run_ok):
    """Train for an epoch with mmengine's Runner, in ``work``."""
    require('mmengine')

    def make(schedule, hooks):
        code = f'SCHEDULES = {schedule!r}\nHOOKS = {hooks!r}\n' + TRAIN
        run_ok(code + 'train(1)\n')
        return code

    return make


# each combination takes four processes that import mmengine
@pytest.mark.parametrize('schedule, hooks',
                         [(WARM_UP_AND_COSINE, [dict(type='EMAHook')]),
                          (ONE_CYCLE, [])])
def test_checkpoint_loads_safely_and_resumes(run_ok, assert_patches,
                                             checkpoint, schedule, hooks):
    code = checkpoint(schedule, hooks)
    assert 'Unsupported global' in assert_patches(LOAD).stderr
    run_ok(PATCH + code + 'assert train(2, True).epoch == 2\n')


def test_checkpoint_of_the_other_numpy_loads(run_ok, checkpoint, tmp_path):
    checkpoint(ONE_CYCLE, [])
    path = tmp_path / 'work' / 'epoch_1.pth'
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    names = [b'numpy._core.multiarray', b'numpy.core.multiarray']
    pickled = next(name for name in files if name.endswith('data.pkl'))
    old, new = names if names[0] in files[pickled] else names[::-1]
    assert old in files[pickled]
    files[pickled] = files[pickled].replace(old, new)
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    run_ok(PATCH + LOAD)


def test_hostile_checkpoints_are_refused(run_python):
    require('mmengine')
    references = [
        "(getattr, (OneCycleParamScheduler, '__init__'))",
        "(getattr, (HistoryBuffer, '_annealing_cos'))",
        "(getattr, (HistoryBuffer, '__init__'))",
        "(os.system, ('echo reached',))", "(eval, ('print(\"reached\")',))"
    ]
    result = run_python(PATCH + f'''
import os, pickle, torch
import mmengine.runner.checkpoint
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
for reference in {references!r}:
    class Hostile:
        def __reduce__(self):
            return eval(reference)
    torch.save(dict(state_dict=Hostile()), 'hostile.pth')
    try:
        torch.load('hostile.pth', weights_only=True)
    except pickle.UnpicklingError:
        print('refused')
''')
    assert result.stdout.split() == ['refused'] * len(references), (
        result.stdout + result.stderr)


# What OneDL's mmengine 0.10.12 adds, in as few lines.
FORK = """
import torch
def _safe_torch_load(file, map_location=None, weights_only=None):
    try:
        with torch.serialization.safe_globals([getattr]):
            return torch.load(file, map_location, weights_only=True)
    except Exception:
        return torch.load(file, map_location, weights_only=bool(0))
def load_from_local(filename, map_location):
    return _safe_torch_load(filename, map_location)
"""


def test_the_fork_does_not_load_what_was_refused(run_python, make_files):
    """Once more without checks, which runs what a hostile file says."""
    require('mmengine')
    import torch
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 5):
        pytest.skip('torch has no safe_globals before 2.5')
    hostile = """
import os, torch, types
class Hostile:
    def __reduce__(self):
        return os.system, ('echo reached',)
torch.save(dict(state_dict=Hostile()), 'hostile.pth')
import mmengine.runner.checkpoint as checkpoint
if not hasattr(checkpoint, '_safe_torch_load'):
    exec(FORK, vars(checkpoint))
    stay_strict(checkpoint)
try:
    checkpoint.load_from_local('hostile.pth', 'cpu')
except Exception as error:
    print('refused', type(error).__name__)
"""
    code = f'FORK = {FORK!r}\n'
    result = run_python(code + 'stay_strict = bool\n' + hostile)
    assert 'reached' in result.stdout, result.stderr
    strict = """
from mmdynperceiver.compat import safe_loading
def stay_strict(module):
    with safe_loading.stay_strict(module):
        pass
"""
    result = run_python(code + PATCH + strict + hostile)
    assert 'reached' not in result.stdout, result.stdout
    assert 'refused UnpicklingError' in result.stdout, result.stderr


def test_safe_loading_is_never_turned_off(repo_root):
    """No file of the package loads without the unpickler's checks."""
    unsafe = 'weights_only=' + 'False'
    sources = [*(repo_root / 'mmdynperceiver').rglob('*.py')]
    sources += [*(repo_root / 'tools').rglob('*.py')]
    assert len(sources) > 5
    assert not [str(p) for p in sources if unsafe in p.read_text()]


def test_object_arrays_are_not_allowed():
    require('mmengine')
    import numpy as np
    allowed = checkpoint_globals()
    assert type(np.dtype('f8')) in allowed
    assert type(np.dtype('O')) not in allowed
    assert not {getattr, eval, exec, sys.exit
                } & {item
                     for item in allowed if callable(item)}
