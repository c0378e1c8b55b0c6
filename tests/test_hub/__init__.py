# Copyright (c) mmdynperceiver contributors. All rights reserved.
