# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Patch known breakages of the OpenMMLab stack, lazily and narrowly.

The last releases of mmengine, mmdet and mmaction2 predate torch 2.6, NumPy 2
and setuptools 82. Each breakage is patched only if it is present, only in the
module that has it, and only when that module is imported:

========================== ============================================
imported module            what is patched
========================== ============================================
mmengine.runner.checkpoint torch >= 2.6 refuses mmengine checkpoints; files
                           are written in place and read unchecked
mmengine.runner.runner     refuses runs that end before a part of their
                           schedule begins
mmengine.hooks.            the old checkpoint is deleted before the new one
checkpoint_hook            is there
mmengine.utils.            ``pkg_resources`` is gone from setuptools 82;
package_utils              editable installs are not located
mmengine.config.utils      ``_base_ = 'mmdynperceiver::...'`` is unknown
mim.utils.utils            editable installs are not located
mmaction, mmdet            refuse mmcv 2.2 and later by version alone
mmaction.utils.dependency  needs ``importlib_metadata``, undeclared
pytorch_grad_cam.          takes one tensor of logits, not one of each exit
activations_and_gradients
sklearn.manifold._t_sne    1.7 renamed ``n_iter``, which vis_tsne.py passes
mmpretrain.apis.model,     know no configs by name but the hosts' own
mmengine.infer.infer
mmaction.models.           ``drn`` is missing from the 1.2.0 wheel
localizers
mmpretrain, mmaction,      whatever breaks one breaks those that use it if
mmdet, their models,       they can; nothing says what fixes it
this package's adapters
the hosts' inferencers     plain results lack where samples left
========================== ============================================

Loading checkpoints stays safe: nothing here turns ``weights_only`` off.

``python -m mmdynperceiver.compat SCRIPT ...`` runs a host's script with all
of this in place from the start.
"""
from . import (broken_host, checkpoint_files, host_tools, model_hub, old_hosts,
               package_lookup, renamed, safe_loading)
from .import_hooks import (PatchingFinder, chain, install_finder,
                           installed_finder)

__all__ = ['install', 'PatchingFinder', 'installed_finder']

_PACKAGE = __name__.partition('.')[0]
_explain = broken_host.explain_broken_host
_explain_and_lift = chain(_explain, old_hosts.lift_mmcv_limit)

PATCHES = {
    'mmengine.runner.checkpoint':
    chain(safe_loading.allow_mmengine_checkpoints,
          checkpoint_files.check_checkpoint_files),
    'mmengine.runner.runner':
    host_tools.fit_short_runs,
    'mmengine.hooks.checkpoint_hook':
    checkpoint_files.keep_until_written,
    'mmengine.utils.package_utils':
    package_lookup.patch_package_utils,
    'mmengine.config.utils':
    package_lookup.register_package,
    'mim.utils.utils':
    package_lookup.patch_mim,
    'mmpretrain':
    _explain,
    'mmaction':
    _explain_and_lift,
    'mmdet':
    _explain_and_lift,
    'mmaction.utils.dependency':
    old_hosts.provide_importlib_metadata,
    'pytorch_grad_cam.activations_and_gradients':
    host_tools.explain_last_exit,
    'sklearn.manifold._t_sne':
    host_tools.accept_n_iter,
    'mmengine.infer.infer':
    model_hub.extend_inferencers,
    'mmpretrain.apis.model':
    model_hub.extend_model_hub,
    'mmpretrain.apis.image_classification':
    host_tools.add_exits_to_images,
    'mmaction.apis.inferencers.actionrecog_inferencer':
    host_tools.add_exits_to_videos,
    'mmaction.apis.inferencers.mmaction2_inferencer':
    host_tools.add_exits_to_tasks,
    'mmdet.apis.det_inferencer':
    host_tools.add_exits_to_boxes,
}
for _host, _task in broken_host.TASK_OF_HOST.items():
    PATCHES[f'{_host}.models'] = PATCHES[f'{_PACKAGE}.{_task}'] = _explain


def install() -> None:
    """Arrange for the patches; calling it again changes nothing."""
    renamed.install()
    install_finder(PATCHES)
    old_hosts.install_drn_placeholder()
