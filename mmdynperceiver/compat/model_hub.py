# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Let the hosts find our configs by name, as they find their own."""
from __future__ import annotations
import contextlib
import functools
import os.path as osp
from types import ModuleType

# The metafiles of what each host can build.
METAFILES = dict(
    mmpretrain=('imagenet', 'cifar'),
    mmaction=('sthv1', 'sthv2', 'kinetics400'),
    mmdet=('coco', 'bccd'))
# Where metafiles say that no weights are hosted.
NO_WEIGHTS = './'


def config_root() -> str:
    """The folder that holds ``configs``: of an install, or the checkout."""
    package = osp.dirname(osp.dirname(osp.abspath(__file__)))
    installed = osp.join(package, '.mim')
    return installed if osp.isdir(installed) else osp.dirname(package)


def _metafiles(host: str) -> list[str]:
    """The metafiles for a host that are there."""
    paths = [
        osp.join(config_root(), 'configs', folder, 'metafile.yml')
        for folder in METAFILES[host]
    ]
    return [path for path in paths if osp.isfile(path)]


@contextlib.contextmanager
def extend_model_hub(module: ModuleType):
    """Let ``mmpretrain.get_model`` and ``list_models`` know our models.

    They are registered with MMPretrain's own, at the first use.
    """
    yield
    hub = module.ModelHub
    original = hub._register_mmpretrain_models
    if hasattr(original, '__wrapped__'):
        return
    registered: list[str] = []

    @functools.wraps(original)
    def register() -> None:
        original()
        if not registered:
            registered.extend(_metafiles('mmpretrain'))
            for path in registered:
                _register(hub, path)

    hub._register_mmpretrain_models = staticmethod(register)


def _register(hub, path: str) -> None:
    """Register the models of a metafile."""
    from modelindex.load_model_index import load
    index = load(path)
    index.build_models_with_collections()
    for model in index.models:
        model.config = osp.join(config_root(), model.config)
        if model.weights == NO_WEIGHTS:
            model.weights = None
        hub._models_dict.setdefault(model.name.lower(), model)


@contextlib.contextmanager
def extend_inferencers(module: ModuleType):
    """Let the inferencers of mmdet and mmaction2 know our models."""
    yield
    kind = module.BaseInferencer
    original = kind._get_models_from_metafile
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def models_of(dir: str):
        yield from original(dir)
        # .../mmdet/.mim of an install, or a checkout with a folder mmdet
        hosts = [
            host for host in METAFILES
            if osp.basename(osp.dirname(osp.abspath(dir))) == host
            or osp.isdir(osp.join(dir, host))
        ]
        for path in _metafiles(hosts[0]) if hosts else ():
            for model in module.load(path)['Models']:
                yield dict(
                    model,
                    Config=osp.join(config_root(), model['Config']),
                    Weights=None)

    kind._get_models_from_metafile = staticmethod(models_of)
