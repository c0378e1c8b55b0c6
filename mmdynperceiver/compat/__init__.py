# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Heal known breakages of the OpenMMLab stack, lazily and narrowly.

The last releases of mmengine, mmdet and mmaction2 predate torch 2.6, NumPy 2
and setuptools 82. Each breakage is healed only if it is present, only in the
module that has it, and only when that module is imported:

========================== ============================================
imported module            what is healed
========================== ============================================
mmengine.runner.checkpoint torch >= 2.6 refuses mmengine checkpoints
mmengine.utils.            ``pkg_resources`` is gone from setuptools 82;
package_utils              editable installs are not located
mmengine.config.utils      ``_base_ = 'mmdynperceiver::...'`` is unknown
mmaction, mmdet            refuse mmcv 2.2 and later by version alone
mmaction.utils.dependency  needs ``importlib_metadata``, undeclared
mmaction.models.           ``drn`` is missing from the 1.2.0 wheel
localizers
========================== ============================================

Loading checkpoints stays safe: nothing here turns ``weights_only`` off.
"""
from . import mmaction_wheel, mmcv_limit, package_lookup, safe_loading
from .import_hooks import HealingFinder, install_finder, installed_finder

__all__ = ['install', 'HealingFinder', 'installed_finder']

HEALERS = {
    'mmengine.runner.checkpoint': safe_loading.allow_mmengine_checkpoints,
    'mmengine.utils.package_utils': package_lookup.heal_package_utils,
    'mmengine.config.utils': package_lookup.register_package,
    'mmaction': mmcv_limit.lift_mmcv_limit,
    'mmdet': mmcv_limit.lift_mmcv_limit,
    'mmaction.utils.dependency': mmaction_wheel.provide_importlib_metadata,
}


def install() -> None:
    """Arrange for the healing; calling it again changes nothing."""
    install_finder(HEALERS)
    mmaction_wheel.install_drn_placeholder()
