# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Whether a device computes right, and how fast: ``tools/check_gpu.py``.

It needs torch and torchvision; what needs more is run where that is there.
"""
