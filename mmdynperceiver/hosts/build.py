# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A config's model and data without a runner: no log, no work folder."""
import copy
import hashlib
import json
import os
import stat
from typing import (Any, Dict, Iterator, List, NamedTuple, Optional, Sequence,
                    Tuple)

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn
from torch.utils.data import DataLoader, Subset

from ..datasets.class_names import class_names
from ..errors import InputError, input_errors
from .exit_logits import PATH_KEYS, path_of

__all__ = [
    'LabelledData', 'annotation_file', 'build_any_model', 'build_data',
    'build_model', 'check_data_folders', 'iter_batches', 'model_of',
    'others_of', 'overlap', 'split_config', 'test_transform'
]

# Wrappers that repeat or reorder what is in them.
WRAPPERS = ('RepeatDataset', 'ClassBalancedDataset')
# What is told of a sample elsewhere, or is only its place in the data.
IDENTITY = (*PATH_KEYS, 'gt_label', 'label', 'img', 'sample_idx')


class LabelledData(NamedTuple):
    """A data set and what identifies its images."""

    dataset: Any
    root: str  # folder from which the paths count, '' if none
    paths: List[str]  # file of each image, or a digest of its pixels
    labels: List[int]  # its class
    classes: Optional[Sequence[str]] = None  # their names, if known
    others: Sequence[str] = ()  # what else is said of it, such as frames

    def names(self) -> List[str]:
        """Paths relative to the folder, with slashes."""
        if not self.root:
            return list(self.paths)
        return [
            os.path.relpath(path, self.root).replace(os.sep, '/')
            for path in self.paths
        ]

    def select(self, indices: Sequence[int]) -> 'LabelledData':
        """Keep some images."""
        return self._replace(
            dataset=Subset(self.dataset, list(indices)),
            paths=[self.paths[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            others=[self.others[i] for i in indices] if self.others else ())

    def identities(self) -> Iterator[Tuple[str, int, str]]:
        """Path, label and what else the data set says of each image."""
        others = self.others or [''] * len(self.paths)
        return zip(self.paths, self.labels, others)

    def places(self) -> List[str]:
        """Where each image really lies, for comparing data sets."""
        folders: Dict[str, str] = {}
        return [_place(path, folders) for path in self.paths]


def _place(path: str, folders: Dict[str, str]) -> str:
    """What is the same for a file, or a folder of frames, and its links.

    ``folders`` keeps where folders really lie.
    """
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder) if folder else ''
    place = os.path.join(folders[folder], name)
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            place, status = os.path.realpath(path), os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                first = next(entries, None)
            if first is not None and first.is_symlink():
                return os.path.dirname(os.path.realpath(first.path))
        elif status.st_nlink > 1 and status.st_ino:
            return f'inode {status.st_dev}:{status.st_ino}'
    except OSError:  # not a local file, or a link to nowhere
        pass
    return place


def model_of(config: Config) -> dict:
    """The model's config without what decides where samples leave."""
    settings = copy.deepcopy(dict(config.model))
    for key in ('thresholds', 'exit', 'exit_index'):
        settings.pop(key, None)
    if config.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor',
                            copy.deepcopy(config.data_preprocessor))
    return settings


def build_any_model(config: Config) -> nn.Module:
    """Build the model of a config, with exits or without; InputError, if the
    config does not fit the code."""
    with input_errors():
        init_default_scope(config.get('default_scope') or 'mmengine')
        return MODELS.build(model_of(config))


def build_model(config: Config) -> nn.Module:
    """Build the model of a config, in eval mode and without thresholds.

    Raises:
        InputError: If the config does not fit the code, or the model has no
            exits.
    """
    model = build_any_model(config)
    if not hasattr(model, 'evaluate_all_exits'):
        raise InputError(f'thresholds are for early-exit models, got '
                         f'{type(model).__name__}')
    return model.eval()


def split_config(config: Config, name: str) -> dict:
    """The data set of 'train', 'val' or 'test', without what repeats it.

    Raises:
        InputError: If the config has no such data.
    """
    loader = config.get(f'{name}_dataloader')
    if not loader or not loader.get('dataset'):
        raise InputError(f'the config has no {name}_dataloader')
    dataset = copy.deepcopy(loader['dataset'])
    while dataset.get('type') in WRAPPERS:
        dataset = dataset['dataset']
    return dataset


def annotation_file(config: Config, split: str) -> str:
    """Where the annotation file of a split really lies, '' if it has none."""
    dataset = (config.get(f'{split}_dataloader') or {}).get('dataset') or {}
    name = dataset.get('ann_file') or ''
    path = os.path.join(dataset.get('data_root') or '', name)
    return name and os.path.realpath(os.path.expanduser(path))


def test_transform(
    config: Config, splits: Sequence[str] = ('test', 'val')) -> List[dict]:
    """The transform of the first of some splits that has one.

    Raises:
        InputError: If none has.
    """
    for name in splits:
        if config.get(f'{name}_dataloader'):
            for holder in _pipeline_holders(split_config(config, name)):
                return list(holder['pipeline'])
    raise InputError('the config has no test_dataloader or val_dataloader '
                     'with a pipeline')


def _pipeline_holders(node: Any) -> Iterator[dict]:
    """The dicts of a data set's config that hold its pipelines."""
    if isinstance(node, dict) and 'pipeline' in node:
        yield node
    elif isinstance(node, (dict, list, tuple)):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _pipeline_holders(child)


def check_data_folders(config: Config, names: Sequence[str]) -> None:
    """Refuse data loaders, by their keys, whose ``data_root`` is not there.

    Raises:
        InputError: Naming the folder and the option that sets it.
    """
    for name in names:
        root = (config.get(name) or {}).get('dataset', {}).get('data_root')
        if root and not is_there(root):
            raise InputError(
                f'there is no data folder {root!r} ({name}.dataset.data_root)'
                f': set it with --cfg-options data_root=...')


def is_there(folder: str) -> bool:
    """Whether there is a folder, or it is behind a URL."""
    return '://' in folder or os.path.isdir(os.path.expanduser(folder))


def build_data(config: Config,
               dataset: dict,
               only_list: bool = False) -> LabelledData:
    """Build a data set with the test transform.

    Args:
        config (Config): The whole config.
        dataset (dict): The data set's config.
        only_list (bool): Whether the images are only to be listed, not
            loaded or checked. Defaults to False.

    Raises:
        InputError: If the data are not there, or do not have one label each.
    """
    transform = [] if only_list else test_transform(config)
    for holder in _pipeline_holders(dataset):
        holder.update(
            pipeline=copy.deepcopy(transform), test_mode=not only_list)
    with input_errors():
        init_default_scope(config.get('default_scope') or 'mmengine')
        built = DATASETS.build(dataset)
        if hasattr(built, 'full_init'):
            built.full_init()
    paths, labels, others = [], [], []
    for index in range(len(built)):
        info = built.get_data_info(index)
        # MMPretrain's name, or else MMAction2's.
        label = np.asarray(info.get('gt_label', info.get('label', [])))
        if label.size != 1 or label < 0:
            raise InputError(f'thresholds need samples with one label each, '
                             f'got {label.tolist()!r}')
        paths.append(_identity(info))
        labels.append(int(label.reshape(())))
        others.append('' if only_list else others_of(info))
    root = getattr(built, 'data_root', '') or ''
    return LabelledData(built, root, paths, labels, class_names(built), others)


def others_of(info: dict) -> str:
    """What counts of a sample beside its file and its label."""
    others = {k: v for k, v in info.items() if k not in IDENTITY}
    return json.dumps(others, sort_keys=True, default=repr) if others else ''


def _identity(info: dict) -> str:
    """Path of a sample, or a digest of its pixels."""
    if path_of(info):
        return path_of(info)
    pixels = np.ascontiguousarray(info['img'])
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def iter_batches(data: LabelledData, loader: dict,
                 start: int) -> Iterator[Any]:
    """Load the data in order from a sample on, for ``model.test_step``.

    Of the config of the ``loader`` its batch size and workers count.
    """
    yield from DataLoader(
        Subset(data.dataset, range(start, len(data.labels))),
        batch_size=loader.get('batch_size', 1),
        num_workers=loader.get('num_workers', 0),
        pin_memory=torch.cuda.is_available(),
        collate_fn=pseudo_collate)


def overlap(one: LabelledData, other: LabelledData) -> Tuple[int, str]:
    """Number of images that data sets share, and one of them ('' if none)."""
    places = set(other.places())
    shared = [
        path for path, place in zip(one.paths, one.places()) if place in places
    ]
    return len(shared), shared[0] if shared else ''
