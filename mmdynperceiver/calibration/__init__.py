# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From the logits of all exits to an operating point."""
