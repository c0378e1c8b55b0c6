# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a user may say of a fit; the rest is chosen."""
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Optional

from ..calibration.goals import parse_accuracy, parse_amount, parse_part
from ..errors import InputError

__all__ = ['FitOptions']

GOALS = ('budget_ms', 'budget_macs', 'min_accuracy', 'max_risk')
# Another value does not need another training.
FREE = (*GOALS, 'out', 'compare', 'device', 'threads', 'fresh', 'data')


@dataclass(frozen=True)
class FitOptions:
    """Arguments of :func:`mmdynperceiver.fit`.

    Args:
        data (str): Folder of class folders, of ``train``, ``val`` and perhaps
            ``test`` with class folders, or a CSV file of paths, labels and
            perhaps splits.
        out (str): Folder for everything that is made.
        budget_ms (str, optional): Most milliseconds of an image on average,
            in the exported network, such as '5', or '50%' of the last exit.
        budget_macs (str, optional): Most MACs: '30M', or '50%'.
        min_accuracy (str, optional): Least accuracy: '0.9', or '90%'.
        max_risk (str, optional): Most that the class may differ from that of
            the last exit, certified: '0.02', or '2%'. Without any of these,
            as cheap as possible and about as accurate as the last exit.
        minutes (float): Time for everything. Defaults to 20.
        backbone_weights (str, optional): File of torchvision's weights of
            the feature branch.
        pretrained (str, optional): A saved folder, a repository on the Hub or
            the name of released weights: its network, but the classifiers,
            is what training starts with.
        arch (str, optional): A feature branch, see ``available_archs``.
        width (float, optional): Its width factor.
        image_size (int, optional): Height and width of the images.
        num_latents (int, optional): Number of latents.
        batch_size (int, optional): Images of a step.
        lr (float, optional): Largest learning rate.
        passes (float, optional): How often each training image is seen.
        flip (bool): Whether to mirror training images, which harms where
            left and right matter. Defaults to True.
        compare (bool): Whether to train the static twin too, in the same
            time again. Defaults to False.
        device (str, optional): Where it trains, such as 'cpu'. Defaults to
            None, a GPU if there is one. What is exported runs on the CPU.
        threads (int, optional): Threads on the CPU.
        seed (int): Of splits, weights and order. Defaults to 0.
        fresh (bool): Whether to begin anew in a folder of an earlier run.

    Raises:
        InputError: If an argument does not fit.
    """

    data: str
    out: str
    budget_ms: Optional[str] = None
    budget_macs: Optional[str] = None
    min_accuracy: Optional[str] = None
    max_risk: Optional[str] = None
    minutes: float = 20.
    backbone_weights: Optional[str] = None
    pretrained: Optional[str] = None
    arch: Optional[str] = None
    width: Optional[float] = None
    image_size: Optional[int] = None
    num_latents: Optional[int] = None
    batch_size: Optional[int] = None
    lr: Optional[float] = None
    passes: Optional[float] = None
    flip: bool = True
    compare: bool = False
    device: Optional[str] = None
    threads: Optional[int] = None
    seed: int = 0
    fresh: bool = False

    def __post_init__(self) -> None:
        paths = ('data', 'out', 'backbone_weights', 'pretrained')
        for name in (*paths, *GOALS):
            value = getattr(self, name)
            if value is not None:
                value = str(value)
                if name in paths:
                    value = os.path.expanduser(value)
                object.__setattr__(self, name, value)
        if Path(self.out).resolve().is_relative_to(Path(self.data).resolve()):
            raise InputError(f'{self.out!r} is in {self.data!r}, so that what '
                             f'is made would be taken for images: choose '
                             f'another --out')
        given = [name for name in GOALS if getattr(self, name)]
        if len(given) > 1:
            raise InputError(f'choose one of {", ".join(GOALS)}, got '
                             f'{" and ".join(given)}')
        self._check_goal()
        for name in ('minutes', 'width', 'image_size', 'num_latents',
                     'batch_size', 'lr', 'passes', 'threads'):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f'{name} must be above 0, got {value}')
        if self.batch_size == 1:
            raise InputError('batch_size must be at least 2: batch norms '
                             'need more than one image')
        follows = dict(
            backbone_weights=('arch', ),
            pretrained=('arch', 'width', 'num_latents', 'backbone_weights'))
        for name, others in follows.items():
            more = [each for each in others if getattr(self, each)]
            if getattr(self, name) and more:
                raise InputError(f'the network follows from {name}: leave '
                                 f'out {" and ".join(more)}')

    def _check_goal(self) -> None:
        """Refuse before a training what its thresholds cannot be solved
        for."""
        for name in ('budget_ms', 'budget_macs'):
            if getattr(self, name) is not None:
                parse_amount(getattr(self, name), 1., name)
        if self.min_accuracy is not None:
            parse_accuracy(self.min_accuracy)
        if self.max_risk is not None:
            parse_part(self.max_risk, 'max_risk')

    def of_training(self) -> Dict[str, Any]:
        """Those that another training follows from."""
        return {k: v for k, v in asdict(self).items() if k not in FREE}
