# Copyright (c) mmdynperceiver contributors. All rights reserved.
custom_imports = dict(
    imports=['mmdynperceiver.classification'], allow_failed_imports=False)

model = dict(
    type='DynPerceiverClassifier',
    # Channels and dropout follow from the backbone.
    head=dict(type='DynPerceiverHead', num_classes=10))
