# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'default_runtime.py'

custom_imports = dict(
    imports=['mmdynperceiver.recognition'], allow_failed_imports=False)

default_scope = 'mmaction'

visualizer = dict(type='ActionVisualizer')
