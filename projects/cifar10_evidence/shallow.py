# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A cheaper static network: fewer blocks."""
_base_ = 'base.py'

custom_imports = dict(
    imports=['mmdynperceiver.classification', 'projects.cifar10_evidence'],
    allow_failed_imports=False)
model = dict(backbone=dict(arch=dict(type='ShallowMobileNetV2')))
