# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Old names work for one more release, and say what the new ones are."""
import importlib

import pytest

pytest.importorskip('mmengine')

from mmdynperceiver.compat import renamed  # noqa: E402


@pytest.mark.parametrize('old', sorted(renamed.MODULES))
def test_old_module(old, monkeypatch):
    new = importlib.import_module(f'mmdynperceiver.{renamed.MODULES[old]}')
    name = f'mmdynperceiver.{old}'
    monkeypatch.delitem(importlib.sys.modules, name, raising=False)
    with pytest.warns(DeprecationWarning, match=new.__name__):
        module = importlib.import_module(name)
    for public in getattr(new, '__all__', ()):
        if old != 'engine':
            assert getattr(module, public) is getattr(new, public)


@pytest.mark.parametrize('package, module, name',
                         [(package, module, name)
                          for package, modules in renamed.EXPORTS.items()
                          for module, names in modules.items()
                          for name in names])
def test_old_export(package, module, name):
    new = importlib.import_module(f'mmdynperceiver.{module}')
    old = importlib.import_module(f'mmdynperceiver.{package}')
    with pytest.warns(DeprecationWarning, match=module):
        found = getattr(old, name)
    assert found is getattr(new, renamed.NAMES.get(name, name))


@pytest.mark.parametrize('module, old, new', [
    ('mmdynperceiver.engine.checkpoints', 'load_whole', 'load_strict'),
    ('mmdynperceiver.files', 'replacing', 'atomic_file'),
    ('mmdynperceiver.engine.contenders', 'Contender', 'BenchmarkEntry'),
])
def test_old_name_in_an_old_module(module, old, new):
    module = importlib.import_module(module)
    assert getattr(module, old) is getattr(module, new)


def test_no_such_name():
    with pytest.raises(ImportError, match='nonsense'):
        from mmdynperceiver.core import nonsense  # noqa: F401
