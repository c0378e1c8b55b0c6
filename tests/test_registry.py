# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""``mmdynperceiver.X`` in the configs of every host."""
import importlib
import importlib.util

import pytest
from mmengine import registry as root
from mmengine.registry import DefaultScope

from mmdynperceiver import registry

TASKS = ('classification', 'recognition', 'detection')
HOSTS = dict(
    classification='mmpretrain', recognition='mmaction', detection='mmdet')
BACKBONE = ('dict(type="mmdynperceiver.DynPerceiverBackbone", '
            'arch="resnet18", width=0.25, num_latents=16)')
# What registers nothing and imports nothing of ours but the registry.
START = '''
from mmengine import registry
from mmengine.registry import DefaultScope
import importlib, sys

def within(scope):
    return DefaultScope.overwrite_default_scope(scope)

def ours():
    return sorted(n for n in sys.modules if n.startswith("mmdynperceiver."))
'''
BREAK = '''
import sys

class Blocker:
    """Make a package look as if it were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)

sys.meta_path.insert(0, Blocker())
'''


def test_from_the_scope_of_every_host_without_custom_imports(run_python):
    for host in HOSTS.values():
        pytest.importorskip(host)
    result = run_python(START + f'''
with within("mmdet"):
    net = registry.MODELS.build({BACKBONE})
    assert "mmdynperceiver.classification" in ours()
    # A model with parts: those of its own host, whatever the scope.
    model = registry.MODELS.build(dict(
        type="mmdynperceiver.DynPerceiverClassifier", backbone={BACKBONE},
        head=dict(type="mmdynperceiver.DynPerceiverHead", num_classes=3)))
    assert type(model.backbone) is type(net)
    kind = type(model.head.loss_module)
    assert kind.__module__.startswith("mmpretrain."), kind
    kind = type(model.data_preprocessor)
    assert kind.__module__.startswith("mmpretrain."), kind
for scope in ("mmaction", "mmpretrain", "mmengine", "mmdynperceiver"):
    with within(scope):
        nodes = importlib.import_module(scope + ".registry")
        assert isinstance(nodes.MODELS.build({BACKBONE}), type(net))
        registry.HOOKS.build(dict(type="mmdynperceiver.CheckDataHook"))
        registry.METRICS.build(dict(type="mmdynperceiver.EarlyExitMetric"))
''')
    assert result.returncode == 0, result.stderr


def test_a_missing_host_is_named_with_what_mends_it(run_python):
    """Both by registry and by import; the engine needs no host."""
    blocked = ''.join(BREAK.format(name=host) for host in HOSTS.values())
    result = run_python(blocked + START + f'''
with within("mmengine"):
    registry.HOOKS.build(dict(type="mmdynperceiver.EvaluateAllExitsHook"))
    registry.METRICS.build(dict(type="mmdynperceiver.EarlyExitMetric"))
    for use in (lambda: registry.MODELS.build({BACKBONE}),
                lambda: importlib.import_module(
                    "mmdynperceiver.classification")):
        try:
            use()
        except ImportError as error:
            print(type(error).__name__, error)
''')
    lines = result.stdout.splitlines()
    assert len(lines) == 2, result.stderr
    for line in lines:
        for text in ('HostImportError classification', "'mmpretrain'",
                     'pip install', 'mmdynperceiver.doctor'):
            assert text in line, line


def test_a_broken_host_breaks_only_its_own_task(run_python, make_files):
    """mmpretrain itself looks for mmdet, and takes an ImportError only."""
    pytest.importorskip('mmpretrain')
    fakes = make_files({
        'mmaction/__init__.py':
        'raise AssertionError("MMCV==9")',
        'mmdet/__init__.py':
        'raise ValueError("numpy.dtype size changed")',
    })
    result = run_python(
        'import mmdynperceiver\n' + START + f'''
with within("mmpretrain"):
    registry.MODELS.build({BACKBONE})
try:
    import mmdet.models
except ImportError as error:
    print(error)
''',
        paths=[fakes])
    assert result.stdout.startswith('detection does not work: ValueError: '
                                    'numpy.dtype'), result.stderr
    assert "pip install 'numpy<2'" in result.stdout


def test_faults_of_our_own_are_not_blamed_on_a_host(run_python):
    result = run_python('''
import mmdynperceiver
from mmdynperceiver.compat import broken_host
try:
    with broken_host.explain_broken_host(mmdynperceiver):
        import mmdynperceiver.no_such_module
except ImportError as error:
    assert type(error) is ModuleNotFoundError, error
''')
    assert result.returncode == 0, result.stderr


def classes_of_ours():
    """What this package has registered, with the name of the registry."""

    def walk(node, kind):
        if not isinstance(node, registry.LazyRegistry):
            for name, item in node.module_dict.items():
                module = getattr(item, '__module__', None) or ''
                # compat stands in for classes of others
                if module.startswith('mmdynperceiver.') and \
                        '.compat.' not in module:
                    yield kind, name, item
        for child in node.children.values():
            yield from walk(child, kind)

    for kind, node in vars(root).items():
        if isinstance(node, root.Registry):
            yield from walk(node, kind)


@pytest.mark.parametrize('task', TASKS)
def test_everything_that_an_adapter_registers_has_its_name_here(task):
    pytest.importorskip(HOSTS[task])
    if importlib.util.find_spec(f'mmdynperceiver.{task}') is None:
        pytest.skip(f'there is no mmdynperceiver.{task}')
    importlib.import_module(f'mmdynperceiver.{task}')
    found = list(classes_of_ours())
    assert len(found) >= 5
    for kind, name, item in found:
        listed = [
            names for names in registry.CLASSES.get(kind, {}).values()
            if name in names
        ]
        assert len(listed) == 1, f'{kind}: {name} in mmdynperceiver/registry'
        assert getattr(root, kind).get(f'mmdynperceiver.{name}') is item


def test_every_listed_class_is_there():
    for kind, modules in registry.CLASSES.items():
        for module, names in modules.items():
            pytest.importorskip(HOSTS.get(module, 'mmengine'))
            for name in names:
                found = getattr(root, kind).get(f'mmdynperceiver.{name}')
                assert found.__name__ == name


def test_an_unknown_name_is_refused():
    with pytest.raises(KeyError, match='NoSuchThing is not in'):
        root.MODELS.build(dict(type='mmdynperceiver.NoSuchThing'))


def test_as_the_default_scope():
    """Bare names are ours and mmengine's; those of hosts have a prefix."""
    pytest.importorskip('mmpretrain')
    with DefaultScope.overwrite_default_scope('mmdynperceiver'):
        model = root.MODELS.build(
            dict(
                type='DynPerceiverClassifier',
                backbone=dict(
                    type='DynPerceiverBackbone',
                    arch='resnet18',
                    width=0.25,
                    num_latents=16),
                head=dict(
                    type='DynPerceiverHead',
                    num_classes=3,
                    loss=dict(
                        type='mmpretrain.LabelSmoothLoss',
                        label_smooth_val=0.1))))
        assert model.head.num_classes == 3
        for kind, name in (('HOOKS', 'CheckDataHook'), ('HOOKS', 'EMAHook'),
                           ('METRICS', 'EarlyExitMetric'),
                           ('LOOPS', 'EpochBasedTrainLoop'), ('OPTIMIZERS',
                                                              'AdamW')):
            with getattr(root, kind).switch_scope_and_registry(None) as node:
                assert node.scope == 'mmdynperceiver'
                assert node.get(name).__name__ == name
