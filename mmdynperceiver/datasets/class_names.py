# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Names of classes: which label each has, and whether data fit a model.

Class folders get their labels in the order of their names, so that data that
lack a folder shift all later labels. Names are the only way to see it.
"""
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from mmengine.logging import print_log

from ..errors import InputError, first_few
from .lists import read_classes

__all__ = [
    'HEAD_NAMES', 'check_data_classes', 'checkpoint_classes',
    'choose_class_names', 'class_names', 'config_num_classes', 'folder_labels',
    'with_class_names'
]

# Where the hosts keep what knows the number of classes.
HEAD_NAMES = ('head', 'cls_head', 'bbox_head', 'roi_head.bbox_head')
NUMBER_REMEDY = 'set model.head.num_classes or choose the right data'
REMEDY = ('give the data a folder for each class of the model (an empty one '
          'will do), or name the classes in the order of their labels by the '
          'option `classes` of the data set')


def class_names(dataset: Any) -> Optional[List[str]]:
    """Class names of a data set of any host, if it knows them."""
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    return None if names is None else list(names)


def checkpoint_classes(content: Mapping[str, Any],
                       num_classes: int) -> Optional[List[str]]:
    """Names of the classes that the content of a checkpoint was trained on.

    None, if it does not carry as many as its model has.
    """
    meta = content.get('meta')
    for key in ('dataset_meta', 'classes'):
        meta = meta.get(key) if isinstance(meta, Mapping) else None
    if not isinstance(meta, (list, tuple)) or len(meta) != num_classes:
        return None
    return [str(name) for name in meta]


def config_num_classes(config: Any) -> Optional[int]:
    """Number of classes of a config's model, if its head says it."""
    for path in HEAD_NAMES:
        node: Any = config.get('model')
        for name in (*path.split('.'), 'num_classes'):
            node = node.get(name) if isinstance(node, Mapping) else None
        if isinstance(node, int):
            return node
    return None


def with_class_names(settings: Dict[str, Any]) -> Dict[str, Any]:
    """Arguments of a data set with class names instead of a file of them.

    Raises:
        InputError: If a file of class names cannot be read.
    """
    changed = {}
    if isinstance(settings.get('classes'), str):
        changed['classes'] = tuple(read_classes(settings['classes']))
    if isinstance(settings.get('metainfo'), Mapping):
        changed['metainfo'] = with_class_names(dict(settings['metainfo']))
    return {**settings, **changed}


def folder_labels(folders: Sequence[str], classes: Optional[Sequence[str]],
                  where: str) -> Dict[str, int]:
    """The label of each class folder in ``where``.

    Without ``classes``, the names in the order of the labels, the sorted
    folders are numbered.

    Raises:
        InputError: If a folder is no class.
    """
    unknown = [name for name in folders if name not in (classes or ())]
    # Titles, as ImageNet has them, stand in the order of the folders.
    if classes is None or len(unknown) == len(folders) == len(classes):
        return {name: label for label, name in enumerate(folders)}
    if unknown:
        raise InputError(
            f'{len(unknown)} of the {len(folders)} class folders in {where!r} '
            f'are no class, the first: {first_few(unknown)}; the classes are '
            f'{first_few(classes)}')
    twice = [name for name in folders if list(classes).count(name) > 1]
    if twice:
        raise InputError(f'the class names of {where!r} hold {twice[0]!r} '
                         f'twice: give each class a name of its own')
    return {name: list(classes).index(name) for name in folders}


def check_data_classes(what: str,
                       dataset: Any,
                       num_classes: int,
                       known: Optional[Sequence[str]] = None,
                       source: str = 'checkpoint',
                       num_labels: Optional[int] = None) -> None:
    """Refuse data whose labels do not mean the classes of the model.

    Args:
        what (str): What the data are, such as 'val data'.
        dataset (Dataset): Wrappers are looked into. One that takes names
            from folders or from paths says so by ``classes_from``.
        num_classes (int): Number of classes that the model has.
        known (Sequence[str], optional): Their names in the order of the
            labels, if they are known, and the ``source`` of these.
        num_labels (int, optional): Largest label plus 1. Defaults to None:
            what the data set says.

    Raises:
        InputError: If number, names or order differ.
    """
    if known is not None and len(known) != num_classes:
        known = None
    for part in _parts(dataset):
        names = class_names(part)
        if names is not None:
            kind = getattr(part, 'classes_from', 'options')
            _check_names(what, names, num_classes, known, source, kind)
        most = getattr(part, 'num_labels', 0) if num_labels is None else \
            num_labels
        if most > num_classes:
            raise InputError(
                f'the {what} have labels up to {most - 1} and the model has '
                f'{num_classes} classes: {NUMBER_REMEDY}')


def _parts(dataset: Any) -> Iterator[Any]:
    """The data sets inside of wrappers."""
    if getattr(dataset, 'datasets', None):
        for part in dataset.datasets:
            yield from _parts(part)
    elif getattr(dataset, 'dataset', None) is not None:
        yield from _parts(dataset.dataset)
    else:
        yield dataset


def _check_names(what: str, names: List[str], num_classes: int,
                 known: Optional[Sequence[str]], source: str,
                 kind: str) -> None:
    """Compare the names of a data set's classes with those of the model."""
    if known is not None and kind == 'paths' and \
            list(known[:len(names)]) == names:
        if len(known) > len(names):
            print_log(
                f'the {what} have no images of some classes: '
                f'{first_few(known[len(names):])}', 'current', 30)
        return
    if len(names) != num_classes:
        raise InputError(
            f'the {what} have {len(names)} classes ({first_few(names)}) and '
            f'the model has {num_classes}{_differences(names, known)}: '
            f'{NUMBER_REMEDY if known is None else REMEDY}')
    if known is None or list(known) == names:
        return
    if kind != 'folders' and not set(known) & set(names):
        # Titles, or folders that are none of classes.
        print_log(
            f'the {what} name the classes {first_few(names)} and the {source} '
            f'{first_few(known)}: they are taken in this order', 'current', 30)
        return
    raise InputError(f'the {what} have other classes than the {source}'
                     f'{_differences(names, known)}: {REMEDY}')


def _differences(names: Sequence[str], known: Optional[Sequence[str]]) -> str:
    """What is missing, what is not known, or that the order differs."""
    if known is None:
        return ''
    missing = [name for name in known if name not in names]
    unknown = [name for name in names if name not in known]
    text = f'; missing: {first_few(missing)}' if missing else ''
    text += f'; unknown: {first_few(unknown)}' if unknown else ''
    return text or '; their order differs'


def choose_class_names(path: Optional[str], content: Mapping[str, Any],
                       num_classes: int) -> List[str]:
    """Names of a model's classes, from a file, its checkpoint or as numbers.

    Without a file (``path`` is None) those that the content of the
    checkpoint carries count.

    Raises:
        InputError: If there are more or fewer names, or the file has those
            of the checkpoint in another order.
    """
    known = checkpoint_classes(content, num_classes)
    if path is None:
        return known or [str(number) for number in range(num_classes)]
    names = read_classes(path)
    if len(names) != num_classes:
        raise InputError(f'{path!r} has {len(names)} class names and the '
                         f'model has {num_classes} classes: give one in each '
                         f'line, in the order of the labels')
    # Other names may be given, such as titles.
    for label, name in enumerate(names if known else ()):
        if name != known[label] and names.count(name) == known.count(
                name) == 1:
            raise InputError(
                f'{path!r} has {name!r} in place {label}, and in the '
                f'checkpoint it is class {known.index(name)}: give the names '
                f'in the order of the labels')
    return names
