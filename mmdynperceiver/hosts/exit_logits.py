# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run all exits of a model over a data set."""
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, Tuple

import torch
from torch import nn

from ..calibration.exit_logits import ExitLogits
from ..progress import track
from .wrappers import unwrap_model

__all__ = [
    'ExitLogits', 'all_exits', 'collect_exit_logits', 'iter_exit_logits',
    'mean_macs', 'path_of'
]

# Where the hosts keep the file of an image, of a video, or a folder of frames.
PATH_KEYS = ('img_path', 'filename', 'frame_dir')


def path_of(sample: Any) -> str:
    """The file of a host's sample, '' where it is not known."""
    found = (sample.get(key) for key in PATH_KEYS)
    return next((str(path) for path in found if path), '')


def mean_macs(samples: Iterable[Any]) -> Tuple[float, ...]:
    """Mean MACs of one sample up to each exit; empty where not known."""
    macs = zip(*(sample.get('exit_macs', ()) for sample in samples))
    return tuple(sum(column) / len(column) for column in macs)


@contextmanager
def all_exits(model: nn.Module, *switches: str) -> Iterator[nn.Module]:
    """Let a model run all exits, in eval mode, with other switches on.

    It is left in eval mode, and the switches as they were.
    """
    model = unwrap_model(model).eval()
    names = ('evaluate_all_exits', *switches)
    before = {name: getattr(model, name) for name in names}
    model.__dict__.update(dict.fromkeys(names, True))
    try:
        yield model
    finally:
        model.__dict__.update(before)


@torch.no_grad()
def iter_exit_logits(model: nn.Module,
                     batches: Iterable[Any]) -> Iterator[ExitLogits]:
    """Run all exits of a classifier or recognizer over batch after batch.

    Args:
        model (nn.Module): An early-exit model; it is left in eval mode.
        batches (Iterable): Yields what ``model.test_step`` takes.
    """
    with all_exits(model) as model:
        for batch in batches:
            samples = model.test_step(batch)
            # [(num_exits, K)] * B -> (num_exits, B, K)
            logits = torch.stack([s.exit_logits for s in samples], 1).cpu()
            labels = [s.gt_label.cpu().reshape(()) for s in samples]
            yield ExitLogits(
                tuple(logits), torch.stack(labels),
                [path_of(s) for s in samples], mean_macs(samples))


def collect_exit_logits(model: nn.Module,
                        dataloader: Any,
                        description: str = 'evaluating') -> ExitLogits:
    """Run all exits over a data set, with a progress bar.

    Args:
        model (nn.Module): An early-exit model; it is left in eval mode.
        dataloader (Iterable): Yields what ``model.test_step`` takes.
        description (str): Stands beside the bar. Defaults to 'evaluating'.

    Raises:
        ValueError: If there are no samples.
    """
    batches = track(dataloader, description, transient=True)
    parts = list(iter_exit_logits(model, batches))
    if not parts:
        raise ValueError('the data set holds no samples')
    return ExitLogits.join(parts)
