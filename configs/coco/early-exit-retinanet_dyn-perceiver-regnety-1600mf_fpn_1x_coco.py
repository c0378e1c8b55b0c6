# Copyright (c) mmdynperceiver contributors. All rights reserved.
# A detector in which easy images stop early. Thresholds come from
# tools/calibrate_detector.py; without them all images take the whole network.
_base_ = ['./retinanet_dyn-perceiver-regnety-1600mf_fpn_1x_coco.py']

model = dict(type='DynPerceiverDetector', thresholds=None)

custom_hooks = [dict(type='EvaluateAllExitsHook'), dict(type='CheckDataHook')]
val_evaluator = dict(type='EarlyExitCocoMetric')
test_evaluator = val_evaluator
