# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Export a checkpoint as one graph per segment, in ONNX or for LiteRT."""
import argparse
import os
from typing import Any, List, Mapping, Optional, Sequence

from mmengine.config import Config

from ..calibration.risk_control import describe_certificate
from ..datasets.class_names import choose_class_names
from ..datasets.image_files import list_images
from ..deploy.detection_pipeline import (is_detection,
                                         read_detection_preprocessing)
from ..deploy.manifest import Manifest
from ..deploy.onnxruntime_session import FIRST_VERSIONS, OPSET
from ..deploy.pipeline import read_preprocessing
from ..deploy.preprocessing import Preprocessing
from ..deploy.video import build_preprocessing
from ..deploy.video_pipeline import is_video, read_video_preprocessing
from ..errors import InputError, first_few
from ..hosts.build import build_any_model, model_of, test_transform
from ..io.atomic import check_new_folder
from ..io.checkpoint_file import read_checkpoint
from . import common
from .folder_options import add_folder_options, describe_source, load_source


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line, or what is given instead."""
    parser = argparse.ArgumentParser(
        description='Export a checkpoint as one graph per segment, with a '
        'manifest, for python -m mmdynperceiver.deploy.')
    add_folder_options(parser)
    parser.add_argument(
        '--format',
        choices=('onnx', 'litert'),
        default='onnx',
        help='litert for telephones: image classifiers and recognizers, in '
        'fp32; it takes litert-torch (default: onnx)')
    parser.add_argument(
        '--int8-calibration',
        metavar='DIR',
        help='quantise to 8 bits by the images in this folder (training or '
        'validation images, a few hundred)')
    parser.add_argument(
        '--int8-test',
        metavar='DIR',
        help='folder with images in a folder for each class, or with those of '
        "the config's test annotations for a detector: tell what the "
        'quantisation costs in accuracy, or box AP, there')
    parser.add_argument(
        '--opset',
        type=int,
        choices=FIRST_VERSIONS,
        default=OPSET,
        help='operator set of ONNX, 18 to 23; 20 for ONNX Runtime 1.17 to '
        '1.22, where attention takes longer (default: 23)')
    common.add_common_options(parser)
    args = parser.parse_args(argv)
    if args.int8_test and not args.int8_calibration:
        parser.error('--int8-test needs --int8-calibration')
    if args.format != 'onnx' and args.int8_calibration:
        parser.error(f'--int8-calibration is for --format onnx; --format '
                     f'{args.format} is exported in fp32')
    return args


def check_labelled(folder: str, classes: List[str],
                   kind: Preprocessing) -> None:
    """Refuse images in folders that are no class, and tell who has none."""
    from ..deploy.quantize import labelled_images
    found = set(labelled_images(folder, classes, kind)[1])
    absent = [name for k, name in enumerate(classes) if k not in found]
    if absent:
        print(f'there are no {kind.files.noun}s of {len(absent)} of the '
              f'{len(classes)} classes in {folder!r}: {first_few(absent)}')


def print_summary(manifest: Manifest, out: str) -> None:
    """Say what was written."""
    print(f'wrote {out}: {len(manifest.graphs)} graphs and a manifest')
    for index, segment in enumerate(manifest.segments):
        size = os.path.getsize(os.path.join(out, segment.file)) / 1e6
        print(f'  exit {index}: {segment.file}, {size:.1f} MB, '
              f'{manifest.macs_per_exit[index] / 1e6:.1f} M MACs up to here')
    difference = manifest.source['largest_logit_difference']
    print(f'logits differ from PyTorch by at most {difference:.1e}')
    detects = manifest.detection is not None
    if manifest.quantization is not None:
        print_quantization(manifest.quantization, detects)
    if manifest.policy['thresholds'] is None and manifest.num_exits > 1:
        tool = 'calibrate_detector' if detects else 'calibrate'
        print(f'without thresholds every image runs to the last exit; '
              f'tools/{tool}.py solves some')


def print_quantization(report: Mapping[str, Any], detects: bool) -> None:
    """Say what 8 bits did to each exit."""
    what, measure = ('boxes', 'box AP') if detects else ('prediction', 'top-1')
    if report['broken_images']:
        print(f'{report["broken_images"]} test images could not be read and '
              f'were skipped')
    print(f'quantised by {report["calibration_images"]} images; on '
          f'{report["test_images"]} images:')
    for index, row in enumerate(report['exits']):
        text = f'same {what} for {row["agreement"]:.2%}'
        if 'int8' in row:
            text += (f'; {measure} {row["int8"]:.2f} % in int8, '
                     f'{row["fp32"]:.2f} % in fp32')
        print(f'  exit {index}: {text}')


def detector(args: argparse.Namespace, config: Config,
             preprocessing: Mapping[str, Any]) -> Manifest:
    """Export a detector."""
    from ..deploy.export_detector import box_settings, export_detector
    if args.format != 'onnx':
        raise InputError(f'detectors take images of any size, which --format '
                         f'{args.format} does not: leave it out')
    common.check_writable_folder(os.path.dirname(os.path.abspath(args.out)))
    model: Any = common.load_model(config, args.checkpoint, build_any_model)
    given = (args.thresholds, args.thresholds_file, args.exit)
    policy = None
    if hasattr(model, 'make_policy') or given != (None, None, None):
        policy = common.choose_policy(args, model, config.model)
    content = read_checkpoint(os.path.expanduser(args.checkpoint))
    with common.input_errors(ImportError, ValueError, OSError, RuntimeError):
        number = box_settings(getattr(model, 'bbox_head', None))['num_classes']
        classes = choose_class_names(args.classes, content, number)
        images = test = None
        if args.int8_calibration:
            images = list_images(args.int8_calibration)
        if args.int8_test:
            from ..detection.evaluation import annotated_images
            test = annotated_images(config, args.int8_test, classes)
        return export_detector(model, args.out, preprocessing, policy, classes,
                               describe_source(args), args.opset, images, test)


def read_transform(config: Config, size: Optional[Sequence[int]]) -> Any:
    """The test pipeline as the runner repeats it.

    ``size`` is that of the images, where the pipeline gives them none.
    """
    pipeline = test_transform(config)
    read = read_detection_preprocessing if is_detection(pipeline) else \
        read_video_preprocessing if is_video(pipeline) else read_preprocessing
    return read(pipeline,
                model_of(config).get('data_preprocessor') or {}, size)


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Check what is given, then export."""
    args = parse_args(argv)
    config = common.load_config(args)
    with common.input_errors():
        from ..deploy.export import export_network
        check_new_folder(args.out)
        preprocessing = read_transform(config, args.size)
    if is_detection(test_transform(config)):
        print_summary(detector(args, config, preprocessing), args.out)
        return
    model, policy, classes, _ = load_source(args, config)
    trunk, exits = model.exit_parts()
    source = describe_source(args)
    with common.input_errors(ImportError, ValueError, OSError, RuntimeError):
        kind = build_preprocessing(preprocessing)
        images = list_images(args.int8_calibration,
                             kind.files) if args.int8_calibration else None
        if args.int8_test:
            check_labelled(args.int8_test, classes, kind)
        manifest = export_network(trunk, exits, args.out, preprocessing,
                                  policy, classes, source, images,
                                  args.int8_test, args.opset, args.format)
    print_summary(manifest, args.out)
    if manifest.certificate is not None:
        print(describe_certificate(manifest.certificate))
    elif policy.certificate:
        print('the thresholds are certified for the network before it was '
              'quantised, so the folder has no certificate')
