# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The logits of all exits over a data set."""
from typing import Any, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

import torch
from rich.progress import track
from torch import Tensor, nn

from .wrappers import unwrap_model

__all__ = ['ExitLogits', 'collect_exit_logits', 'iter_exit_logits', 'path_of']

# Where the hosts keep the file of an image, of a video, or a folder of frames.
PATH_KEYS = ('img_path', 'filename', 'frame_dir')


class ExitLogits(NamedTuple):
    """What all exits say of labelled samples.

    Args:
        logits (tuple[Tensor]): Logits (N, K) of each exit, on the CPU.
        labels (Tensor): True classes (N,).
        paths (list[str]): Files of the samples, '' where not known.
        macs (tuple[float]): Mean MACs of one sample up to each exit; empty
            where not known. Defaults to ().
    """

    logits: Tuple[Tensor, ...]
    labels: Tensor
    paths: List[str]
    macs: Tuple[float, ...] = ()

    @classmethod
    def join(cls, parts: Sequence['ExitLogits']) -> 'ExitLogits':
        """Put parts of a data set together, in their order.

        Args:
            parts (Sequence[ExitLogits]): At least one.
        """
        total = sum(len(part.labels) for part in parts)
        macs = tuple(
            sum(len(part.labels) * part.macs[k] for part in parts) / total
            for k in range(min(len(part.macs) for part in parts)))
        exits = zip(*(part.logits for part in parts))
        return cls(
            tuple(torch.cat(logits) for logits in exits),
            torch.cat([part.labels for part in parts]),
            [path for part in parts for path in part.paths], macs)


def path_of(sample: Any) -> str:
    """The file of a sample, '' where it is not known.

    Args:
        sample (Any): A host's data sample, or what a data set knows of it.
    """
    found = (sample.get(key) for key in PATH_KEYS)
    return next((str(path) for path in found if path), '')


@torch.no_grad()
def iter_exit_logits(model: nn.Module,
                     batches: Iterable[Any]) -> Iterator[ExitLogits]:
    """Run all exits over one batch after the other.

    Args:
        model (nn.Module): An early-exit model; it is left in eval mode.
        batches (Iterable): Yields what ``model.test_step`` takes.

    Yields:
        ExitLogits: Of each batch.
    """
    model = unwrap_model(model).eval()
    before = model.evaluate_all_exits
    model.evaluate_all_exits = True
    try:
        for batch in batches:
            samples = model.test_step(batch)
            # [(num_exits, K)] * B -> (num_exits, B, K)
            logits = torch.stack([s.exit_logits for s in samples], 1).cpu()
            macs = [s.get('exit_macs', ()) for s in samples]
            yield ExitLogits(
                tuple(logits),
                torch.stack([s.gt_label.cpu().reshape(()) for s in samples]),
                [path_of(s) for s in samples],
                tuple(sum(column) / len(column) for column in zip(*macs)))
    finally:
        model.evaluate_all_exits = before


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
    batches = track(dataloader, description, transient=True)
    parts = list(iter_exit_logits(model, batches))
    if not parts:
        raise ValueError('the data set holds no samples')
    return ExitLogits.join(parts)
