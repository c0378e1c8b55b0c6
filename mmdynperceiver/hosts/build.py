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
    'LabelledData', 'build_data', 'build_model', 'iter_batches', 'model_of',
    'overlap', 'split_config', 'test_transform'
]

# Wrappers that repeat or reorder what is in them.
WRAPPERS = ('RepeatDataset', 'ClassBalancedDataset')
# What is told of a sample elsewhere, or is only its place in the data.
IDENTITY = (*PATH_KEYS, 'gt_label', 'label', 'img', 'sample_idx')


class LabelledData(NamedTuple):
    """A data set and what identifies its images.

    Args:
        dataset (Dataset): Gives the samples.
        root (str): Folder from which the paths count, '' if none.
        paths (list[str]): File of each image, or a digest of its pixels.
        labels (list[int]): Its class.
        classes (Sequence[str], optional): Names of all classes. Defaults to
            None, not known.
        others (Sequence[str]): What else the data set says of each image,
            such as which frames count. Defaults to (), nothing.
    """

    dataset: Any
    root: str
    paths: List[str]
    labels: List[int]
    classes: Optional[Sequence[str]] = None
    others: Sequence[str] = ()

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
    """What is the same for a file and for all links to it.

    Args:
        path (str): A file, a folder of frames, or any other name.
        folders (dict[str, str]): Where folders really lie, as far as known.
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
    """The model's config without what decides where samples leave.

    Args:
        config (Config): The whole config.
    """
    settings = copy.deepcopy(dict(config.model))
    settings.pop('thresholds', None)
    settings.pop('exit', None)
    if config.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor',
                            copy.deepcopy(config.data_preprocessor))
    return settings


def build_model(config: Config) -> nn.Module:
    """Build the model of a config, in eval mode.

    Args:
        config (Config): The whole config; its scope decides the host.

    Returns:
        nn.Module: With exits and a policy without thresholds.

    Raises:
        InputError: If the config does not fit the code, or the model has no
            exits.
    """
    with input_errors():
        init_default_scope(config.get('default_scope') or 'mmengine')
        model = MODELS.build(model_of(config))
    if not hasattr(model, 'evaluate_all_exits'):
        raise InputError(f'thresholds are for early-exit models, got '
                         f'{type(model).__name__}')
    return model.eval()


def split_config(config: Config, name: str) -> dict:
    """The data set of a split, without what repeats it.

    Args:
        config (Config): The whole config.
        name (str): 'train', 'val' or 'test'.

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


def test_transform(config: Config) -> List[dict]:
    """The transform of the test data, or else of the validation data.

    Raises:
        InputError: If the config has neither.
    """
    for name in ('test', 'val'):
        if config.get(f'{name}_dataloader'):
            found = list(_pipelines(split_config(config, name)))
            if found:
                return list(copy.deepcopy(found[0]))
    raise InputError('the config has no test_dataloader or val_dataloader '
                     'with a pipeline')


def _pipelines(node: Any) -> Iterator[Sequence[dict]]:
    """Find all pipelines of a data set's config."""
    if isinstance(node, dict):
        if 'pipeline' in node:
            yield node['pipeline']
        for child in node.values():
            yield from _pipelines(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _pipelines(child)


def _set_pipeline(node: Any, pipeline: List[dict], test_mode: bool) -> None:
    """Replace all pipelines of a data set's config."""
    if isinstance(node, dict):
        if 'pipeline' in node:
            node['pipeline'] = copy.deepcopy(pipeline)
            node['test_mode'] = test_mode
        else:
            for child in node.values():
                _set_pipeline(child, pipeline, test_mode)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _set_pipeline(child, pipeline, test_mode)


def check_data_folders(config: Config, names: Sequence[str]) -> None:
    """Refuse data loaders whose ``data_root`` is not there.

    Args:
        config (Config): The config.
        names (Sequence[str]): Keys of data loaders; absent ones are fine.

    Raises:
        InputError: Naming the folder and the option that sets it.
    """
    for name in names:
        dataset = (config.get(name) or {}).get('dataset', {})
        root = dataset.get('data_root')
        if root and '://' not in root and not os.path.isdir(
                os.path.expanduser(root)):
            raise InputError(
                f'there is no data folder {root!r} ({name}.dataset.data_root)'
                f': set it with --cfg-options data_root=...')


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
    _set_pipeline(dataset, transform, not only_list)
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
        others.append('' if only_list else _others(info))
    return LabelledData(built,
                        getattr(built, 'data_root', '') or '', paths, labels,
                        class_names(built), others)


def _others(info: dict) -> str:
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
    """Load the data in order.

    Args:
        data (LabelledData): The data.
        loader (dict): Config of a data loader: its batch size and number of
            workers count.
        start (int): Index of the first sample.

    Yields:
        Any: What ``model.test_step`` takes.
    """
    indices = range(start, len(data.labels))
    yield from DataLoader(
        Subset(data.dataset, indices),
        batch_size=loader.get('batch_size', 1),
        num_workers=loader.get('num_workers', 0),
        pin_memory=torch.cuda.is_available(),
        collate_fn=pseudo_collate)


def overlap(one: LabelledData, other: LabelledData) -> Tuple[int, str]:
    """Count the images that two data sets share.

    Returns:
        tuple[int, str]: Their number, and one of them ('' if none).
    """
    places = set(other.places())
    shared = [
        path for path, place in zip(one.paths, one.places()) if place in places
    ]
    return len(shared), shared[0] if shared else ''
