# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Of images of 224 pixels, 112, 160 and then 224, a network for each.
_base_ = '../imagenet_classifier.py'

model = dict(
    backbone=dict(
        type='ResolutionCascadeBackbone',
        arch='regnety-400mf',
        scales=(1 / 2, 5 / 7, 1)),
    head=dict(loss_weights=dict(type='equal')))
