# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Patch known breakages of the OpenMMLab stack, lazily and narrowly.

The last releases of mmengine, mmdet and mmaction2 predate torch 2.6, NumPy 2
and setuptools 82. Each breakage is patched only if it is present, only in the
module that has it, and only when that module is imported:

================ ===========================================================
broken_host      whatever breaks one host breaks those that use it if they
                 can; nothing says what fixes it
checkpoint_files mmengine writes checkpoints in place, deletes the old one
                 before the new one is there, and reads damaged ones
host_tools       inferencers lack where samples left, vis_cam.py takes one
                 tensor of logits, vis_tsne.py an older scikit-learn, and no
                 run ends before a part of its schedule begins
model_hub        the hosts know no configs by name but their own
old_hosts        mmaction and mmdet refuse mmcv 2.2 by version alone; the
                 wheel of mmaction2 1.2.0 lacks a module and a dependency
package_lookup   ``pkg_resources`` is gone from setuptools 82; editable
                 installs are not located; ``_base_ = 'mmdynperceiver::...'``
python_versions  Python 3.14 has no ``pkgutil.find_loader``
safe_loading     torch >= 2.6 refuses mmengine checkpoints
================ ===========================================================

Loading checkpoints stays safe: nothing here turns ``weights_only`` off.

``python -m mmdynperceiver.compat SCRIPT ...`` runs a host's script with all
of this in place from the start.
"""
from . import (broken_host, checkpoint_files, host_tools, model_hub, old_hosts,
               package_lookup, python_versions, renamed, safe_loading)
from .import_hooks import PatchingFinder, install_finder

__all__ = [
    'install', 'PatchingFinder', 'broken_host', 'checkpoint_files',
    'host_tools', 'model_hub', 'old_hosts', 'package_lookup',
    'python_versions', 'safe_loading'
]


def install() -> None:
    """Arrange for the patches; calling it again changes nothing."""
    renamed.install()
    install_finder()
    old_hosts.install_drn_placeholder()
