# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Serving an exported network: answers leave early, and queues stay short.

``scheduler`` runs the segments for many requests at once, ``controller``
chooses the operating point that holds a latency, ``http_app`` is the
application and ``ray_app`` puts it into Ray Serve. Nothing here imports
torch.
"""
