# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The images to solve thresholds on, and those to test them on."""
from typing import Optional, Sequence

from mmengine.config import Config

from ..datasets.class_names import (check_data_classes, config_num_classes,
                                    listed)
from ..datasets.hold_out import choose_hold_out, single_images
from ..errors import InputError
from .build import LabelledData, build_data, overlap, split_config

__all__ = ['check_images', 'held_out_data', 'separate_test_data']


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
              f'training: {listed(names)}')
    return data.select(chosen)


def separate_test_data(config: Config, held_out: LabelledData,
                       leave_out: bool) -> LabelledData:
    """The test images, none of them a held-out one.

    Args:
        config (Config): The whole config.
        held_out (LabelledData): The held-out images.
        leave_out (bool): Whether held-out images may be left out of the
            test images.

    Raises:
        InputError: If there are some among them that stay.
    """
    data = build_data(config, split_config(config, 'test'))
    number, _ = overlap(held_out, data)
    if number and leave_out:
        places = set(held_out.places())
        kept = [i for i, p in enumerate(data.places()) if p not in places]
        print(f'{number} of the {len(data.labels)} test images are held out; '
              f'the others are the test images')
        data, number = data.select(kept), 0
    if number:
        raise InputError(
            f'{number} of the {len(held_out.labels)} held-out images are test '
            f'images, so they test nothing: with --split test --hold-out N, '
            f'the thresholds are solved on N of them and tested on the others')
    return data


def check_images(what: str,
                 data: LabelledData,
                 num_classes: int,
                 known: Optional[Sequence[str]] = None) -> None:
    """Refuse images whose labels do not mean the model's classes.

    Args:
        what (str): What they are, such as 'test images'.
        data (LabelledData): The images.
        num_classes (int): Number of classes that the model knows.
        known (Sequence[str], optional): Their names in the checkpoint.
            Defaults to None, not known.

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
