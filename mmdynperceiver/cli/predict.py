# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Say what is in image files, whatever form the network has.

A checkpoint, a saved folder or a repository on the Hub, or an exported folder.
The last needs neither torch nor OpenMMLab, so what does is imported where a
network of another form is opened.
"""
import argparse
import importlib
import os
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set

from ..datasets.image_files import FILE_ERRORS, find_files
from ..deploy.decoding import decode
from ..deploy.manifest import MANIFEST
from ..deploy.policy import Policy
from ..deploy.preprocessing import check_takes_images
from ..deploy.runner import Runner
from ..deploy.sessions import RUNTIMES
from ..errors import input_errors, one_line
from ..exit_settings import fixed_exit_thresholds
from ..io.atomic import check_new_folder
from ..progress import set_quiet
from . import file_predictions, options, predict_jobs

ENDINGS = ('.pth', '.pt')


class Source(NamedTuple):
    """A network: what it says of a file, the names of its classes, and the
    runner of an exported folder."""

    predict: Callable[[str], Any]
    names: List[str]
    runner: Optional[Runner] = None


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Classify image files: the best classes, the exit at '
        'which each image left, how sure, and what it cost.')
    parser.add_argument(
        'model',
        help='a checkpoint, a folder that `mmdynperceiver share` or `export` '
        'wrote, or owner/repository on the Hub')
    file_predictions.add_file_options(parser, 'image')
    # Read by choose_policy; only a checkpoint has one.
    parser.set_defaults(checkpoint=None)
    parser.add_argument(
        '--config',
        help='of a checkpoint: its config file (default: the config that the '
        'checkpoint carries)')
    parser.add_argument(
        '--draw',
        metavar='DIR',
        help='write each image with its result below it to this folder, new '
        'or empty')
    parser.add_argument(
        '--runtime',
        choices=list(RUNTIMES),
        default='onnxruntime',
        help='of an exported folder (default: onnxruntime)')
    predict_jobs.add_job_options(parser)
    options.add_common_options(parser)
    return parser.parse_args()


def open_source(args: argparse.Namespace) -> Source:
    """Open what ``args.model`` names.

    Raises:
        InputError: If it is nothing of the kind, or an option does not fit.
    """
    path = os.path.expanduser(args.model)
    if predict_jobs.is_job(args):
        predict_jobs.check_model(path)
    if os.path.isfile(os.path.join(path, MANIFEST)):
        return open_exported(args, path)
    if os.path.isfile(path) or path.endswith(ENDINGS):
        return open_checkpoint(args, path)
    return open_saved(args, path)


def open_exported(args: argparse.Namespace, path: str) -> Source:
    """Open an exported folder."""
    with input_errors():
        streams, threads = 1, args.threads
        if predict_jobs.is_job(args):
            streams, threads = predict_jobs.workers(args)
        runner = Runner.load(path, args.runtime, threads, streams=streams)
        check_takes_images(runner.preprocessing, path)
        settings = policy_settings(args, runner.manifest.num_exits,
                                   runner.policy, {})
        runner.policy = Policy(runner.manifest.num_exits, **settings)
    names = list(runner.manifest.classes)
    if args.classes is not None:
        names = choose_names(args, names, len(names))
    return Source(run_by(runner), names, runner)


def open_saved(args: argparse.Namespace, path: str) -> Source:
    """Open a saved folder, or a repository."""
    with input_errors():
        from ..core import ExitPolicy
        from ..core.operating_point import describe_model
        from ..hub.classifier import ImageClassifier, NetworkRunner
        from ..io.model_folder import find_folder, read_folder
        from . import common
        common.apply_run_options(args)
        folder = find_folder(path)
        content, weights = read_folder(folder)
        if content.get('kind') != 'network':
            return open_host_model(args, content, weights, folder)
        net = ImageClassifier.from_content(content, weights, folder)
        number = net.exits.num_exits
        net.policy = ExitPolicy(
            number,
            **policy_settings(args, number, net.policy,
                              describe_model(*net.exit_parts())))
        runner = NetworkRunner(net.to(args.device))
    return Source(
        run_by(runner),
        choose_names(args, content.get('classes'), net.num_classes))


def open_host_model(args: argparse.Namespace, content: Dict[str, Any],
                    weights: Dict[str, Any], folder: str) -> Source:
    """Open a folder that holds a host's model."""
    from ..hub.host_models import build_host_model, host_config
    from . import checkpoint_images, common
    config = host_config(content, folder)
    checkpoint_images.check_task(config)
    model: Any = build_host_model(content, weights, folder)
    model.policy = common.choose_policy(args, model)
    model.to(args.device)
    names = choose_names(args, content.get('classes'),
                         model.exit_parts()[1].num_classes)
    return Source(checkpoint_images.build_predict(model, config), names)


def open_checkpoint(args: argparse.Namespace, path: str) -> Source:
    """Open a checkpoint, with its config."""
    from ..datasets.class_names import choose_class_names
    from ..io.checkpoint_file import read_checkpoint
    from . import checkpoint_images, common
    from .config_in_checkpoint import config_of_checkpoint
    common.apply_run_options(args)
    args.checkpoint = path
    with common.input_errors():
        content = read_checkpoint(path)
    if args.config is not None:
        config = common.load_config(args)
    else:
        config = config_of_checkpoint(content, path)
        config.merge_from_dict(dict(args.cfg_options or {}))
    checkpoint_images.check_task(config)
    with common.input_errors():
        importlib.import_module('mmdynperceiver.classification')
    model = common.load_model(config, path)
    model.policy = common.choose_policy(args, model, config.model)
    with common.input_errors():
        model.to(args.device)
    names = choose_class_names(args.classes, content,
                               model.exit_parts()[1].num_classes)
    return Source(checkpoint_images.build_predict(model, config), names)


def choose_names(args: argparse.Namespace, known: Any,
                 num_classes: int) -> List[str]:
    """Names of the classes, of ``--classes`` or those that a folder has."""
    from ..datasets.class_names import choose_class_names
    content = dict(meta=dict(dataset_meta=dict(classes=known)))
    return choose_class_names(args.classes, content, num_classes)


def policy_settings(args: argparse.Namespace, num_exits: int, policy: Any,
                    model: Dict[str, Any]) -> Dict[str, Any]:
    """Arguments of a policy by the options, else as they are;
    as of :func:`mmdynperceiver.cli.common.choose_policy`."""
    found: Any = policy
    if args.thresholds_file is not None:
        from ..core import OperatingPoint
        found = OperatingPoint.load(args.thresholds_file, num_exits, model)
    settings = dict(found.settings, thresholds=found.thresholds)
    if args.exit is not None:
        return dict(thresholds=fixed_exit_thresholds(args.exit, num_exits))
    if args.thresholds is not None:
        settings['thresholds'] = args.thresholds
    return settings


def run_by(runner: Runner) -> Callable[[str], Any]:
    """Classify a file by a runner."""
    all_macs = tuple(runner.manifest.macs_per_exit)

    def predict(path: str) -> Any:
        try:
            result, = runner([path])
        except FILE_ERRORS as error:  # says which file
            raise file_predictions.BrokenInputError(one_line(error)) from error
        return SimpleNamespace(
            pred_score=result.scores,
            exit_index=result.exit_index,
            exit_confidence=result.confidence,
            macs=result.macs,
            exit_macs=all_macs)

    return predict


def drawer(folder: str) -> Callable[[Dict[str, Any]], None]:
    """Write each image with its result into a folder."""
    from ..report.annotated import annotate
    os.makedirs(folder, exist_ok=True)
    taken: Set[str] = set()

    def draw(result: Dict[str, Any]) -> None:
        stem = os.path.splitext(os.path.basename(result['image']))[0]
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f'{stem}-{number}'
        taken.add(name)
        annotate(
            decode(result['image'], 'pillow'), result,
            os.path.join(folder, f'{name}.png'))

    return draw


def main() -> None:
    """Check what is given, then classify one image after the other."""
    args = parse_args()
    set_quiet(args.quiet)
    predict_jobs.check_job(args)
    if not predict_jobs.is_job(args):
        file_predictions.check_options(args)
    with input_errors():
        files = find_files(args.files, args.on_broken)
        if args.draw is not None:
            check_new_folder(args.draw)
            options.check_writable_folder(args.draw)
    source = open_source(args)
    if predict_jobs.is_job(args):
        predict_jobs.predict_job(args, files, source.runner, source.names)
        return
    draw: Callable[[Dict[str, Any]], Any] = bool
    if args.draw is not None:
        with input_errors(ImportError, OSError):
            draw = drawer(args.draw)
    file_predictions.predict_files('image', files, args, source.predict,
                                   source.names, draw)
    if args.draw is not None:
        print(f'wrote the pictures to {args.draw}')
