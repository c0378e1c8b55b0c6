# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The same numbers in less time or memory, by other modules in their place."""
