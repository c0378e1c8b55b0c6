# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Each patch is tried with and without: without, it must be broken."""
import importlib.util
import re
import sys
import zipfile
from types import SimpleNamespace

import pytest

from mmdynperceiver.compat import model_hub, package_lookup
from mmdynperceiver.compat.host_tools import explain_last_exit
from mmdynperceiver.compat.safe_loading import checkpoint_globals

PATCH = 'import mmdynperceiver\n'

# A stand-in for mmaction2 1.2.0, as its wheel is.
FAKE_MMACTION = {
    'mmaction/__init__.py':
    '',
    'mmaction/registry.py':
    '''
class Registry(dict):
    def register_module(self, name, module, force):
        self[name] = module
MODELS = Registry()
''',
    'mmaction/models/__init__.py':
    'from .localizers import DRN',
    'mmaction/models/localizers/__init__.py':
    'from .drn.drn import DRN',
    'mmaction/utils/__init__.py':
    '',
    'mmaction/utils/dependency.py':
    'from importlib_metadata import PackageNotFoundError, distribution\n'
    'value = 7\n',
}


def require(*modules):
    """Skip where a host package is not installed."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed')


@pytest.fixture
def run_ok(run_python):
    """Runs code that must not fail."""

    def run(code, **kwargs):
        result = run_python(code, **kwargs)
        assert result.returncode == 0, result.stderr
        return result

    return run


@pytest.fixture
def faked(make_files):
    """Settings of a run in which packages are stand-ins of these files."""
    return lambda files: dict(paths=[make_files(files)], site_packages=False)


@pytest.fixture
def assert_patches(run_python, run_ok):
    """Asserts that code fails, and does not after importing us."""

    def check(code, **kwargs):
        broken = run_python(code, **kwargs)
        assert broken.returncode, 'nothing is broken here'
        run_ok(PATCH + code, **kwargs)
        return broken

    return check


# ---------------------------------------------------------------- the import
def test_import_is_light(run_ok):
    result = run_ok(
        PATCH + 'import sys\n'
        'roots = {name.partition(".")[0] for name in sys.modules}\n'
        'print(sorted(roots & {"torch", "numpy", "mmengine", "mmcv", '
        '"mmpretrain", "mmaction", "mmdet", "mmdynperceiver"}))')
    assert result.stdout.split() == ["['mmdynperceiver']"], result.stderr


def test_installing_twice_changes_nothing(run_ok):
    run_ok(
        PATCH + 'import sys\nbefore = list(sys.meta_path)\n'
        'mmdynperceiver.compat.install()\n'
        'assert sys.meta_path == before\n'
        'kinds = [type(finder).__name__ for finder in before]\n'
        'assert kinds[0] == "PatchingFinder"\n'
        'assert kinds[-1] == "DRNPlaceholderFinder"\n',
        site_packages=False)


def test_patched_module_keeps_its_loader_and_source(run_ok, faked):
    run_ok(
        PATCH + 'import mmdet, inspect, importlib\n'
        'from importlib.machinery import SourceFileLoader\n'
        'assert type(mmdet.__loader__) is SourceFileLoader\n'
        'assert "exec_module" not in vars(mmdet.__loader__)\n'
        'assert inspect.getsource(mmdet) == "value = 1\\n"\n'
        'assert importlib.reload(mmdet).value == 1\n',
        **faked({'mmdet/__init__.py': 'value = 1\n'}))


HOST_WITH_LIMIT = '''
import mmcv
assert tuple(map(int, mmcv.__version__.split('.'))) < (2, 2, 0), 'too new'
seen = mmcv.__version__
'''


def host_beside_mmcv(version, host='mmdet'):
    return {
        'mmcv/__init__.py': f'__version__ = "{version}"\n',
        f'{host}/__init__.py': HOST_WITH_LIMIT
    }


DRN_IS_MISSING = 'ImportError: the installed mmaction2 lacks'


@pytest.mark.parametrize('files, code, message', [
    ({
        'mmdet/__init__.py': 'raise OSError("broken")\n'
    }, 'import mmdet', 'OSError: broken'),
    (FAKE_MMACTION, 'import mmaction.models\n'
     'from mmaction.registry import MODELS\nMODELS["DRN"](hidden_dim=512)',
     f'{DRN_IS_MISSING}.*pip install -e .'),
    (FAKE_MMACTION, 'from mmaction.utils.dependency import value\n'
     'assert value == 7\nimport importlib_metadata',
     "No module named 'importlib_metadata'"),
    (host_beside_mmcv('2.4.0'), 'import mmdet', 'AssertionError: too new'),
    (host_beside_mmcv('3.0.0'), 'import mmdet', 'AssertionError: too new'),
])
def test_what_still_fails(run_python, faked, files, code, message):
    result = run_python(PATCH + code, **faked(files))
    assert result.returncode and re.search(message, result.stderr, re.DOTALL)


# ------------------------------------------------------- hosts as they are
@pytest.mark.parametrize('files, code', [
    (FAKE_MMACTION, 'from mmaction.models import DRN'),
    (FAKE_MMACTION, 'from mmaction.utils.dependency import distribution'),
    (host_beside_mmcv('2.2.0', 'mmdet'), 'import mmdet, mmcv\n'
     'assert mmcv.__version__ == "2.2.0"'),
    (host_beside_mmcv('2.2.0', 'mmaction'), 'import mmaction, mmcv\n'
     'assert mmcv.__version__ == "2.2.0"'),
])
def test_hosts_import(assert_patches, faked, files, code):
    assert_patches(code, **faked(files))


def test_real_drn_wins_over_the_placeholder(run_ok, faked):
    run_ok(
        PATCH + 'from mmaction.models import DRN\nassert DRN == "real"',
        **faked({
            **FAKE_MMACTION, 'mmaction/models/localizers/drn/drn.py':
            'DRN = "real"\n'
        }))


def test_real_mmaction_imports(run_ok):
    require('mmaction', 'mmcv')
    run_ok(PATCH + 'import mmaction.models\n'
           'from mmaction.registry import MODELS\n'
           'assert MODELS.get("Recognizer2D") is not None\n')


# ------------------------------------------------------------------- mmengine
WITHOUT_PKG_RESOURCES = "import sys\nsys.modules['pkg_resources'] = None\n"


def test_lookup_works_without_pkg_resources(assert_patches):
    require('mmengine')
    assert_patches(
        WITHOUT_PKG_RESOURCES +
        'from mmengine.utils import get_installed_path, is_installed\n'
        'import mmengine, os\n'
        'assert is_installed("mmengine") and not is_installed("mmnothing")\n'
        'assert os.path.samefile(get_installed_path("mmengine"), '
        'mmengine.__path__[0])\n')


def test_lookup_is_patched_when_mmengine_came_first(run_ok):
    require('mmengine')
    run_ok(WITHOUT_PKG_RESOURCES +
           'import mmengine.config.config as config, mmengine.utils as utils\n'
           'import mmdynperceiver\n'
           'assert config.is_installed("mmengine")\n'
           'assert utils.is_installed("mmengine")\n')


def test_host_config_is_inherited_without_pkg_resources(
        assert_patches, make_files):
    require('mmengine', 'mmpretrain')
    folder = make_files(
        {'config.py': "_base_ = 'mmpretrain::_base_/default_runtime.py'\n"})
    assert_patches(WITHOUT_PKG_RESOURCES +
                   'from mmengine.config import Config\n'
                   f'config = Config.fromfile({str(folder / "config.py")!r})\n'
                   'assert config.default_scope == "mmpretrain"\n')


def test_configs_of_this_package_can_be_named(assert_patches):
    require('mmengine')
    assert_patches(
        'from mmengine.config import utils\n'
        'split = utils._get_package_and_cfg_path\n'
        'assert split("mmdynperceiver::a/b.py")[0] == "mmdynperceiver"\n')


def metadata(package, module):
    """What is installed beside a package."""
    return {
        f'{package}-9.9.dist-info/METADATA':
        f'Metadata-Version: 2.1\nName: {package}\nVersion: 9.9\n',
        f'{package}-9.9.dist-info/top_level.txt': f'{module}\n'
    }


@pytest.mark.parametrize('prefix', ['', WITHOUT_PKG_RESOURCES])
def test_editable_install_is_located(assert_patches, make_files, repo_root,
                                     prefix):
    """Metadata of an editable install lie apart from the package."""
    require('mmengine', 'pkg_resources')
    assert_patches(
        prefix + 'from mmengine.utils import get_installed_path\n'
        'path = get_installed_path("mmdynperceiver")\n'
        f'assert path == {str(repo_root / "mmdynperceiver")!r}, path\n',
        paths=[make_files(metadata('mmdynperceiver', 'mmdynperceiver'))])


def test_lookup_of_names_that_differ_or_are_not_there(make_files, monkeypatch):
    fake = make_files({
        'mmthing/__init__.py': '',
        **metadata('mmthing2', 'mmthing')
    })
    monkeypatch.syspath_prepend(str(fake))
    assert package_lookup.package2module('mmthing2') == 'mmthing'
    assert package_lookup.get_installed_path('mmthing2') == str(fake /
                                                                'mmthing')
    with pytest.raises(ModuleNotFoundError, match='mmnothing'):
        package_lookup.get_installed_path('mmnothing')


# ---------------------------------------------------------------- checkpoints
TRAIN = '''
import sys
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
        if mode == 'loss':
            loss = torch.nn.functional.cross_entropy(logits, labels)
            return dict(loss=loss, acc=loss.detach())
        return [logits]

class Accuracy(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(1)
    def compute_metrics(self, results):
        return dict(top1=np.float64(1), top5=np.float32(1), n=np.int64(2))

def loader():
    return DataLoader(Data(torch.randn(8, 4), torch.arange(8) % 2), 4)

def train(epochs, resume=False):
    runner = Runner(
        Net(), 'work', loader(), loader(), val_cfg=dict(),
        val_evaluator=[Accuracy()],
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=SCHEDULES,
        custom_hooks=HOOKS,
        default_hooks=dict(checkpoint=dict(
            type='CheckpointHook', interval=1, save_best='top1')),
        resume=resume, log_level='ERROR')
    runner.train()
    return runner
'''
SCHEDULES = {
    'warm-up and cosine': [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
        dict(type='CosineAnnealingLR', T_max=4, by_epoch=True)
    ],
    'one cycle':
    [dict(type='OneCycleLR', eta_max=0.1, total_steps=8, by_epoch=False)],
}
HOOKS = {'plain': [], 'averaged': [dict(type='EMAHook')]}
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
                         [('warm-up and cosine', 'averaged'),
                          ('one cycle', 'plain')])
def test_checkpoint_loads_safely_and_resumes(run_ok, assert_patches,
                                             checkpoint, schedule, hooks):
    code = checkpoint(SCHEDULES[schedule], HOOKS[hooks])
    assert 'Unsupported global' in assert_patches(LOAD).stderr
    run_ok(PATCH + code + 'assert train(2, True).epoch == 2\n')


def test_checkpoint_of_the_other_numpy_loads(run_ok, checkpoint, tmp_path):
    import torch
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 6):
        pytest.skip('torch has no aliases before 2.6')
    checkpoint(SCHEDULES['one cycle'], [])
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
    allowed = checkpoint_globals(aliases=False)
    assert type(np.dtype('f8')) in allowed
    assert type(np.dtype('O')) not in allowed
    assert not {getattr, eval, exec, sys.exit
                } & {item
                     for item in allowed if callable(item)}


# ---------------------------------------------------------- the hosts' scripts
def test_grad_cam_looks_at_the_last_exit():
    """And at other models as ever."""

    class ActivationsAndGradients:

        def __init__(self, model):
            self.model = model

        def __call__(self, x):
            return self.model(x)

    class Model:

        def __call__(self, x):
            return x, x + 1

    class EarlyExit(Model):
        evaluate_all_exits = False

    module = SimpleNamespace(ActivationsAndGradients=ActivationsAndGradients)
    with explain_last_exit(module):
        pass
    assert ActivationsAndGradients(EarlyExit())(1) == 2
    assert ActivationsAndGradients(Model())(1) == (1, 2)


def test_a_script_that_imports_a_host_first(run_python, make_files, tmp_path):
    """mmaction2's confusion_matrix.py imports the models at once."""
    root = make_files({
        **FAKE_MMACTION, 'scripts/beside.py':
        'value = 5',
        'scripts/script.py':
        'import sys\nfrom mmaction.models import DRN\nimport beside\n'
        'print(beside.value, sys.argv[1:], __name__)'
    })
    script = root / 'scripts/script.py'
    run = 'import runpy, sys\nsys.argv = {}\n{}'
    direct = run.format([str(script), 'a'], f'runpy.run_path({str(script)!r})')
    assert 'drn' in run_python(direct, [root]).stderr
    module = "runpy.run_module('mmdynperceiver.compat', run_name='__main__')"
    result = run_python(run.format(['x', str(script), 'a'], module), [root])
    assert result.stdout.split() == ['5', "['a']", '__main__'], result.stderr
    result = run_python(run.format(['x', 'none.py'], module), [root])
    assert 'usage' in result.stderr and result.returncode == 1


def test_a_script_that_sorts_its_imports(run_python, tmp_path):
    """It holds mmengine's functions before the package is imported."""
    (tmp_path / 'last_checkpoint').write_text('epoch_1.pth')
    (tmp_path / 'epoch_1.pth').write_bytes(b'half')
    code = 'from mmengine.runner import find_latest_checkpoint\n{}' \
        f'print(find_latest_checkpoint({str(tmp_path)!r}) is None)'
    for line, is_skipped in (('', 'False'), (PATCH, 'True')):
        result = run_python(code.format(line))
        assert result.stdout.split()[-1] == is_skipped, result.stderr


def test_configs_of_an_install_and_of_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / 'mmdynperceiver'
    monkeypatch.setattr(model_hub, '__file__',
                        str(package / 'compat/model_hub.py'))
    assert model_hub.config_root() == str(tmp_path)
    (package / '.mim').mkdir(parents=True)
    assert model_hub.config_root() == str(package / '.mim')
