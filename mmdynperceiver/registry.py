# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Let every host's configs name this package's classes.

``type='mmdynperceiver.X'`` resolves from any scope, without custom_imports:
mmengine imports this module and asks the node of this package for X. A node
knows where each class is and imports it only when it is asked for, so that a
host that is broken or not there matters to nobody else. The classes
themselves register with their hosts, where bare names find them.

``default_scope='mmdynperceiver'`` works as well: bare names are then those
of this package and of mmengine, and a host's need their prefix.
"""
from importlib import import_module
from typing import Mapping, Optional, Sequence, Type

from mmengine import registry as root
from mmengine.registry import Registry

__all__ = [
    'DATASETS', 'HOOKS', 'METRICS', 'MODELS', 'OPTIM_WRAPPERS', 'TRANSFORMS',
    'LazyRegistry'
]

SCOPE = __name__.partition('.')[0]

# What is where: root registry -> module of this package -> names.
CLASSES: Mapping[str, Mapping[str, Sequence[str]]] = {
    'MODELS': {
        'classification':
        ('ConvAIGBackbone', 'ConvBackbone', 'DynPerceiverBackbone',
         'DynPerceiverClassifier', 'DynPerceiverHead', 'MSDNetBackbone',
         'RANetBackbone', 'ResolutionCascadeBackbone', 'SkipNetBackbone',
         'SkippingClassifier'),
        'recognition':
        ('DynPerceiverRecognizer', 'DynPerceiverTSM', 'DynPerceiverTSMHead',
         'FrameExitBackbone', 'FrameExitHead', 'FrameExitRecognizer'),
        'detection': ('DynPerceiverDetBackbone', 'DynPerceiverDetector'),
    },
    'DATASETS': {
        'classification': ('CheckedImageFolder', ),
        'recognition': ('CheckedRawframeDataset', 'CheckedVideoDataset'),
        'detection': ('CheckedCocoDataset', ),
    },
    'TRANSFORMS': {
        'recognition': ('RequireFrames', ),
    },
    'HOOKS': {
        'classification': ('SoftGatesHook', ),
        'hosts': ('CheckCheckpointHook', 'CheckDataHook',
                  'EvaluateAllExitsHook', 'ExitCurveHook', 'InferenceModeHook',
                  'ProgressBarHook', 'TimedScheduleHook', 'WarmupEMAHook'),
    },
    'DATA_SAMPLERS': {
        'hosts': ('SlicedSampler', ),
    },
    'METRICS': {
        'hosts': ('EarlyExitMetric', ),
        'detection': ('CheckedCocoMetric', 'EarlyExitCocoMetric'),
    },
    'OPTIM_WRAPPERS': {
        'hosts': ('BFloat16OptimWrapper', ),
    },
}


class LazyRegistry(Registry):
    """A registry that imports a class when it is asked for.

    Args:
        parent (Registry): mmengine's registry of this kind.
        classes (Mapping[str, Sequence[str]]): Names of classes by the module
            of this package that has them.
    """

    def __init__(self, parent: Registry,
                 classes: Mapping[str, Sequence[str]]) -> None:
        super().__init__(parent.name, parent=parent, scope=SCOPE)
        self._sources = {
            name: f'{SCOPE}.{module}'
            for module, names in classes.items()
            for name in names
        }

    def import_from_location(self) -> None:
        """Import nothing: :meth:`get` does, and only what it needs."""

    def get(self, key: str) -> Optional[Type]:
        """Find a class by its name, with or without a scope, or None.

        Raises:
            ImportError: If a host that the class needs is broken or missing,
                with what fixes it.
        """
        scope, name = self.split_scope_key(key)
        known = scope in (None, SCOPE) and name in self._sources
        if known and name not in self._module_dict:
            module = import_module(self._sources[name])
            self._register_module(getattr(module, name), name)
        return super().get(key)


# One node for each kind, also where there is nothing of ours: as the default
# scope, this package would otherwise be missing there.
NODES = {
    name: LazyRegistry(registry, CLASSES.get(name, {}))
    for name, registry in vars(root).items() if isinstance(registry, Registry)
}
MODELS = NODES['MODELS']
DATASETS = NODES['DATASETS']
HOOKS = NODES['HOOKS']
METRICS = NODES['METRICS']
OPTIM_WRAPPERS = NODES['OPTIM_WRAPPERS']
TRANSFORMS = NODES['TRANSFORMS']
