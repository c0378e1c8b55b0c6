# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The logits of all exits over a data set."""
from typing import Any, List, NamedTuple, Tuple

import torch
from rich.progress import track
from torch import Tensor, nn

from .hooks import unwrap_model

__all__ = ['ExitLogits', 'collect_exit_logits']


class ExitLogits(NamedTuple):
    """What all exits say of labelled samples.

    Args:
        logits (tuple[Tensor]): Logits (N, K) of each exit, on the CPU.
        labels (Tensor): True classes (N,).
        paths (list[str]): Image files, '' where not known.
    """

    logits: Tuple[Tensor, ...]
    labels: Tensor
    paths: List[str]


@torch.no_grad()
def collect_exit_logits(model: nn.Module,
                        dataloader: Any,
                        description: str = 'evaluating') -> ExitLogits:
    """Run all exits over a data set, with a progress bar.

    Args:
        model (nn.Module): An early-exit model; it is left in eval mode.
        dataloader (Iterable): Yields what ``model.test_step`` takes.
        description (str): Stands beside the bar. Defaults to 'evaluating'.

    Returns:
        ExitLogits: In the order of the data.

    Raises:
        ValueError: If there are no samples.
    """
    model = unwrap_model(model).eval()
    logits, labels, paths = [], [], []
    before = model.evaluate_all_exits
    model.evaluate_all_exits = True
    try:
        for batch in track(dataloader, description, transient=True):
            for sample in model.test_step(batch):
                logits.append(sample.exit_logits.cpu())
                labels.append(sample.gt_label.cpu().reshape(()))
                paths.append(sample.get('img_path', ''))
    finally:
        model.evaluate_all_exits = before
    if not logits:
        raise ValueError('the data set holds no samples')
    return ExitLogits(
        tuple(torch.stack(logits, 1)), torch.stack(labels), paths)
