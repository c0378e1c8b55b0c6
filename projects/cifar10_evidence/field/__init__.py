# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracy against MACs, of networks of several families."""
