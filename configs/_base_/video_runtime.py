# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'default_runtime.py'

default_scope = 'mmaction'

visualizer = dict(type='ActionVisualizer')
