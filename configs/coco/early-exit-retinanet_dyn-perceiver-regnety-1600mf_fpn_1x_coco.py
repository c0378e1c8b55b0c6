# Copyright (c) mmdynperceiver contributors. All rights reserved.
# A detector in which easy images stop early. Thresholds come from
# tools/calibrate_detector.py; without them all images take the whole network.
_base_ = [
    '../_base_/models/retinanet/regnety-1600mf.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/detection_1x_adamw.py',
    '../_base_/detection_runtime.py',
]

model = dict(
    type='DynPerceiverDetector',
    backbone=dict(num_latents=128),
    thresholds=None)

custom_hooks = [
    dict(type='EvaluateAllExitsHook'),
    dict(type='CheckDataHook'),
    dict(type='ExitCurveHook')
]
val_evaluator = dict(type='EarlyExitCocoMetric')
test_evaluator = val_evaluator
