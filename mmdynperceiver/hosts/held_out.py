# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The images to solve thresholds on, and those to test them on."""
import os
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Sequence

from mmengine.config import Config
from torch import nn

from ..calibration.exit_logits import ExitLogits
from ..calibration.logit_cache import CachedLogits, cached_exit_logits
from ..datasets.class_names import check_data_classes, config_num_classes
from ..datasets.hold_out import choose_hold_out, single_images
from ..errors import InputError, first_few
from ..io.fingerprints import (data_fingerprint, settings_fingerprint,
                               weights_fingerprint)
from ..version import __version__
from .build import (LabelledData, build_data, is_there, iter_batches, model_of,
                    overlap, split_config)

__all__ = [
    'check_held_out', 'check_images', 'held_out_data', 'run_exits',
    'separate_test_data', 'sources_of', 'training_data'
]

# Folder of the logits, in the work folder.
CACHE = 'logits'

Names = Optional[Sequence[str]]


def held_out_data(config: Config, split: str,
                  number: Optional[int]) -> LabelledData:
    """The images to solve thresholds on.

    Args:
        config (Config): The whole config.
        split (str): The data to take them from: 'train', 'val' or 'test'.
        number (int, optional): How many to hold out, from each class its
            share; None, all of them.

    Raises:
        InputError: If the data do not fit the model of the config, or
            cannot give so many.
    """
    dataset = split_config(config, split)
    if number is None:
        return build_data(config, dataset)
    # The choice is made among all images, whatever training leaves out.
    dataset.pop('exclude', None)
    data = build_data(config, dataset)
    num_classes = config_num_classes(config)
    if num_classes is not None:
        check_images(f'{split} data', data, num_classes)
    chosen = choose_hold_out(data.names(), data.labels, number)
    single = single_images(data.labels)
    if single:
        names = [data.classes[k] if data.classes else str(k) for k in single]
        print(f'warning: classes with a single image, which stays in '
              f'training: {first_few(names)}')
    return data.select(chosen)


def training_data(config: Config) -> Optional[LabelledData]:
    """The list of the training data, if the config has some that are here."""
    if not config.get('train_dataloader'):
        return None
    dataset = split_config(config, 'train')
    root = dataset.get('data_root')
    if root and not is_there(root):
        return None
    return build_data(config, dataset, only_list=True)


def separate_test_data(config: Config, held_out: LabelledData,
                       leave_out: bool) -> LabelledData:
    """The test images, none of them a held-out one.

    Raises:
        InputError: If there are some among them, and these are not to be
            left out.
    """
    data = build_data(config, split_config(config, 'test'))
    number, _ = overlap(held_out, data)
    if number and not leave_out:
        raise InputError(
            f'{number} of the {len(held_out.labels)} held-out images are test '
            f'images, so they test nothing: with --split test --hold-out N, '
            f'the thresholds are solved on N of them and tested on the others')
    if number:
        places = set(held_out.places())
        print(f'{number} of the {len(data.labels)} test images are held out; '
              f'the others are the test images')
        data = data.select(
            [i for i, p in enumerate(data.places()) if p not in places])
    return data


def check_images(what: str,
                 data: LabelledData,
                 num_classes: int,
                 known: Names = None) -> None:
    """Refuse images whose labels do not mean the model's classes.

    ``what`` they are stands in the message; ``known`` are the names of the
    classes in the checkpoint.

    Raises:
        InputError: If there are none, or their classes are others.
    """
    if not data.labels:
        raise InputError(f'there are no {what}')
    check_data_classes(
        what,
        data.dataset,
        num_classes,
        known,
        num_labels=max(data.labels) + 1)


def check_held_out(data: LabelledData,
                   num_classes: int,
                   training: Optional[LabelledData],
                   remedy: str,
                   known: Names = None) -> None:
    """Refuse images from which no thresholds can be learned.

    ``remedy`` says what to do about those that are training images.

    Raises:
        InputError: If there are none, all are of one class, they have other
            classes than the model, or some are training images.
    """
    check_images('held-out images', data, num_classes, known)
    if len(set(data.labels)) < 2:
        label = data.labels[0]
        names = data.classes or known
        raise InputError(
            f'all {len(data.labels)} held-out images are of class '
            f'{repr(names[label]) if names else label}; thresholds need '
            f'images as mixed as those to come')
    number, first = (0, '') if training is None else overlap(data, training)
    if number:
        raise InputError(
            f'{number} of the {len(data.labels)} held-out images are training '
            f'images, the first: {first!r}; {remedy}')


def sources_of(config: Config, weights: Mapping[str, Any], data: LabelledData,
               transform: Any, description: str) -> Dict[str, str]:
    """Fingerprints of all that logits depend on; a progress bar says so."""
    return dict(
        checkpoint=weights_fingerprint(weights),
        model=settings_fingerprint(model_of(config)),
        data=data_fingerprint(data.root, data.identities(),
                              os.path.join(config.work_dir, CACHE, 'files'),
                              description),
        transform=settings_fingerprint(transform),
        version=__version__)


def run_exits(
    model: nn.Module, data: LabelledData, config: Config, split: str,
    sources: Mapping[str, str], description: str,
    run: Callable[[nn.Module, Iterable[Any]], Iterable[ExitLogits]]
) -> CachedLogits:
    """Run the network once over images, or take the logits from the cache.

    Args:
        model (nn.Module): An early-exit model with its weights.
        data (LabelledData): The images.
        config (Config): The whole config: its work folder holds the cache.
        split (str): The data loader of the config whose settings count.
        sources (Mapping[str, str]): What :func:`sources_of` says.
        description (str): Stands beside the progress bar.
        run (Callable): Runs the model over batches.
    """
    loader = config[f'{split}_dataloader']
    device = next(model.parameters()).device.type
    cached = cached_exit_logits(
        os.path.join(config.work_dir, CACHE), dict(sources, device=device),
        len(data.labels),
        lambda start: run(model, iter_batches(data, loader, start)),
        description)
    # The data may have moved since.
    exits = cached.exits._replace(paths=list(data.paths))
    return cached._replace(exits=exits)
