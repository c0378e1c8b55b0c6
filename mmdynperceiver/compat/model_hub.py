# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Let the hosts find our configs by name, as they find their own."""
from __future__ import annotations
import os.path as osp

from .import_hooks import extends

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


@extends('mmpretrain.apis.model', 'ModelHub', '_register_mmpretrain_models')
def extend_model_hub(module, register):
    """Let ``mmpretrain.get_model`` and ``list_models`` know our models.

    They are registered with MMPretrain's own, at the first use.
    """
    register()
    if getattr(module.ModelHub, 'knows_mmdynperceiver', False):
        return
    module.ModelHub.knows_mmdynperceiver = True
    from modelindex.load_model_index import load
    for path in _metafiles('mmpretrain'):
        index = load(path)
        index.build_models_with_collections()
        for model in index.models:
            model.config = osp.join(config_root(), model.config)
            if model.weights == NO_WEIGHTS:
                model.weights = None
            module.ModelHub._models_dict.setdefault(model.name.lower(), model)


@extends('mmengine.infer.infer', 'BaseInferencer', '_get_models_from_metafile')
def extend_inferencers(module, models_of, dir):
    """Let the inferencers of mmdet and mmaction2 know our models."""
    yield from models_of(dir)
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
