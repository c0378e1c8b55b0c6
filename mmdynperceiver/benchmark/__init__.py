# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Networks measured side by side."""
