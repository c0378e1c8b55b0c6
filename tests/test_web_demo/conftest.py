# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The tiny exported network of the runner's tests, with thresholds."""
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_deploy import conftest as deployed
from tiny import ROOT

from mmdynperceiver.deploy.manifest import Manifest

collect_ignore_glob = deployed.collect_ignore_glob
photos, resnet = deployed.photos, deployed.resnet


@pytest.fixture(scope='session')
def changed(resnet, tmp_path_factory):
    """Copy the exported folder, and change what its manifest says."""

    def change(precision='fp32', steps=None, **policy):
        folder = tmp_path_factory.mktemp('web') / 'exported'
        shutil.copytree(resnet.folder, folder)
        manifest = Manifest.load(folder)
        manifest.policy.update(policy)
        manifest.precision = precision
        if steps is not None:
            manifest.preprocessing['steps'] = steps
        manifest.save(folder)
        return folder

    return change


@pytest.fixture(scope='session')
def calibrated(changed, resnet, photos):
    """The exported folder with thresholds, and a runner of it.

    Half of the images that are under way leave at each exit.
    """
    from mmdynperceiver.deploy import Runner
    from mmdynperceiver.deploy.policy import confidence
    runner = Runner.load(resnet.folder)
    images = runner.preprocessing.batch(sorted(photos.iterdir()))
    conf = [np.sort(confidence(x)) for x in runner.all_exits(images)[:-1]]
    # Between two confidences: rounding decides nothing.
    middle = len(images) // 2
    thresholds = [float(x[middle - 1] + x[middle]) / 2 for x in conf]
    folder = changed(thresholds=thresholds)
    return folder, Runner.load(folder)


@pytest.fixture(scope='session')
def package():
    """The package onnxruntime-web, where somebody has installed it."""
    folder = Path(
        os.environ.get('ONNXRUNTIME_WEB',
                       ROOT / 'node_modules/onnxruntime-web'))
    if not (folder / 'package.json').is_file():
        pytest.skip('there is no onnxruntime-web: npm install --no-save '
                    'onnxruntime-web in the checkout brings it')
    return folder
