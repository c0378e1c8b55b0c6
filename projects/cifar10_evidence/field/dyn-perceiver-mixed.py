# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dyn-Perceiver whose feature branch is trained first."""
_base_ = 'dyn-perceiver.py'

model = dict(branch_first=0.3)
