# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What is imported with patches, and what without."""
import re
from types import SimpleNamespace

import pytest

from mmdynperceiver.compat import model_hub, package_lookup
from mmdynperceiver.compat.host_tools import explain_last_exit
from .conftest import PATCH, require

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


@pytest.fixture
def faked(make_files):
    """Settings of a run in which packages are stand-ins of these files."""
    return lambda files: dict(paths=[make_files(files)], site_packages=False)


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
HOST_CONFIG = "_base_ = 'mmpretrain::_base_/default_runtime.py'"
WITHOUT_PKG_RESOURCES = "import sys\nsys.modules['pkg_resources'] = None\n"


@pytest.mark.parametrize(
    'code', [
        WITHOUT_PKG_RESOURCES +
        'from mmengine.utils import get_installed_path, is_installed\n'
        'import mmengine, os\n'
        'assert is_installed("mmengine") and not is_installed("mmnothing")\n'
        'assert os.path.samefile(get_installed_path("mmengine"), '
        'mmengine.__path__[0])\n',
        WITHOUT_PKG_RESOURCES +
        f'open("config.py", "w").write({HOST_CONFIG!r})\n'
        'from mmengine.config import Config\n'
        'config = Config.fromfile("config.py")\n'
        'assert config.default_scope == "mmpretrain"\n',
        'from mmengine.config import utils\n'
        'split = utils._get_package_and_cfg_path\n'
        'assert split("mmdynperceiver::a/b.py")[0] == "mmdynperceiver"\n',
    ],
    ids=['lookup', 'host config', 'own config'])
def test_mmengine_finds_packages(assert_patches, code):
    require('mmengine', 'mmpretrain')
    assert_patches(code)


def test_lookup_is_patched_when_mmengine_came_first(run_ok):
    require('mmengine')
    run_ok(WITHOUT_PKG_RESOURCES +
           'import mmengine.config.config as config, mmengine.utils as utils\n'
           'import mmdynperceiver\n'
           'assert config.is_installed("mmengine")\n'
           'assert utils.is_installed("mmengine")\n')


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


# ---------------------------------------------------------- the hosts' scripts
def test_grad_cam_looks_at_the_last_exit():
    """And at other models as ever."""

    class ActivationsAndGradients:

        def __init__(self, model):
            self.model = model

        def __call__(self, x):
            return x, x + 1

    with explain_last_exit(
            SimpleNamespace(ActivationsAndGradients=ActivationsAndGradients)):
        pass
    early_exit = SimpleNamespace(evaluate_all_exits=False)
    assert ActivationsAndGradients(early_exit)(1) == 2
    assert ActivationsAndGradients(SimpleNamespace())(1) == (1, 2)


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


# -------------------------------------------------------- versions of Python
def test_operators_are_looked_for_in_python_314(run_ok):
    """``pkgutil`` has no ``find_loader`` there."""
    require('mmengine', 'mmcv')
    run_ok('import pkgutil\nif hasattr(pkgutil, "find_loader"):\n'
           '    del pkgutil.find_loader\n' + PATCH + 'import importlib.util\n'
           'from mmengine.utils.dl_utils.misc import mmcv_full_available\n'
           'from mmcv.utils.ext_loader import check_ops_exist\n'
           'there = importlib.util.find_spec("mmcv._ext") is not None\n'
           'assert mmcv_full_available() == check_ops_exist() == there\n')
