# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Lists, class names and files of data sets, checked."""
