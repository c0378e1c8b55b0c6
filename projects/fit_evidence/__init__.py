# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What `mmdynperceiver fit` is compared with; see README.md."""
