# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The staged scheduler behind other servers."""
