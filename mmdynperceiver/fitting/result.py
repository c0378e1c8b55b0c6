# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a fit brings, and how it is printed."""
import shlex
from dataclasses import dataclass
from typing import Dict, Iterator, Optional

from ..cli.console import console
from .judge import Judged

__all__ = ['FitResult', 'doubts', 'print_result']


@dataclass(frozen=True)
class FitResult:
    """What a fit has made and measured, on test images.

    Args:
        folder (str): Everything is in it.
        config (str): Config file, for ``train`` and ``test``.
        checkpoint (str): The weights, with thresholds inside.
        exported (str): Folder for ``mmdynperceiver predict`` and ``serve``.
        page (str): The report.
        thresholds (tuple[float]): One for each exit but the last.
        accuracy (float): Of leaving early, in [0, 1].
        last_accuracy (float): Of the last exit.
        macs (float): Of an image on average.
        last_macs (float): Of the last exit.
        ms (float): Of an image on average, exported, on this machine.
        last_ms (float): Of all exits.
        early (float): Share of images that leave before the last exit.
        static (dict, optional): ``accuracy``, ``macs`` and ``ms`` of the
            static twin.
    """

    folder: str
    config: str
    checkpoint: str
    exported: str
    page: str
    thresholds: tuple
    accuracy: float
    last_accuracy: float
    macs: float
    last_macs: float
    ms: float
    last_ms: float
    early: float
    static: Optional[Dict[str, float]] = None


def doubts(result: FitResult, half: float, largest: float) -> Iterator[str]:
    """What says that a model is of little use.

    Args:
        result (FitResult): What was made.
        half (float): Half of the interval of the accuracy.
        largest (float): Share of the test images in the largest class.
    """
    lost = result.last_accuracy - result.accuracy
    if result.last_accuracy <= largest + half:
        yield (f'the last exit is right on {result.last_accuracy:.1%} of the '
               f'test images, and naming always the largest class would be on '
               f'{largest:.1%}: more images, --minutes or '
               f'--backbone-weights can help')
    elif lost > max(half, 0.02):
        yield (f'leaving early costs {100 * lost:.1f} points of accuracy: '
               f'with a larger budget or --min-accuracy it costs fewer, and '
               f'the same command then trains nothing again')


def print_result(result: FitResult, half: float, judged: Judged) -> None:
    """Print the four figures, the page, and how to use the model.

    Args:
        result (FitResult): What was made.
        half (float): Half of the interval of the accuracy.
        judged (Judged): How it was timed.
    """
    lines = [
        f'  accuracy   {result.accuracy:8.2%}   last exit '
        f'{result.last_accuracy:.2%}; 95 % certain within {half:.1%}',
        f'  time       {result.ms:8.2f} ms all exits {result.last_ms:.2f} ms; '
        f'exported, {judged.number} test images, {judged.threads} threads',
        f'  MACs       {result.macs / 1e6:8.1f} M  all exits '
        f'{result.last_macs / 1e6:.1f} M', f'  left early {result.early:8.2%}'
    ]
    twin = result.static
    if twin is not None:
        lines.append(f'static twin: {twin["accuracy"]:.2%} in '
                     f'{twin["ms"]:.2f} ms, {twin["macs"] / 1e6:.1f} M MACs '
                     f'(in turn with it, leaving early took '
                     f'{twin["own_ms"]:.2f} ms)')
    lines += [
        '', f'{result.page} shows it all; use the model by', '',
        f'    python -m mmdynperceiver predict {shlex.quote(result.exported)} '
        f'IMAGES...', ''
    ]
    # A command must not be broken.
    console.print('\n'.join(lines), soft_wrap=True)
