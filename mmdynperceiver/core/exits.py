# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exits: classifiers and the forward knowledge transfer between them."""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

__all__ = ['PAPER_KINDS', 'Exits']

# What the paper's four exits read: latents, latents, features, both.
PAPER_KINDS = ('z', 'z', 'x', 'xz')


class Exits(nn.Module):
    """Classifiers over pooled vectors; they never see an image.

    What is pooled at an exit decides what its classifier is. Latents ('z')
    get a linear layer. Features ('x') get the feature branch's own
    classifier. Both ('xz') are joined behind a batch norm, and classified
    likewise. Forward knowledge transfer (FKT) hands the logits of each exit
    on latents to the next one that reads latents: with the four exits of the
    paper from exit 0 to exit 1, and from exit 1 to exit 3.

    Args:
        exit_channels (Sequence[Sequence[int]]): Widths of the vectors of
            each exit (``SegmentedTrunk.exit_channels``).
        num_classes (int): Number K of classes.
        fkt (bool): Whether to transfer knowledge. Defaults to True.
        hidden_channels (int, optional): Width of the hidden layer of the
            exits that read features. Defaults to None, no hidden layer.
        dropout (float): Dropout rate of those exits; without a hidden layer
            only of those that read features alone. Defaults to 0.
        init_std (float, optional): Standard deviation of the initial weights
            of the exits that read features alone; None keeps PyTorch's.
            Defaults to None.
        kinds (Sequence[str]): What is pooled at each exit
            (``SegmentedTrunk.exit_kinds``). Defaults to the paper's four,
            ('z', 'z', 'x', 'xz').
        boosting (float, optional): Makes each exit a weak learner of a sum
            (BoostNet, arXiv 2211.16726): it answers with its own logits plus
            this factor times the answer of the exit before, through which no
            gradient goes. The paper's factor is 0.5; weights belong to one
            factor, and carry it. Defaults to None, each exit alone.

    Raises:
        ValueError: If an argument does not fit.
    """

    boosting: Optional[Tensor]

    def __init__(self,
                 exit_channels: Sequence[Sequence[int]],
                 num_classes: int,
                 fkt: bool = True,
                 hidden_channels: Optional[int] = None,
                 dropout: float = 0.,
                 init_std: Optional[float] = None,
                 kinds: Sequence[str] = PAPER_KINDS,
                 boosting: Optional[float] = None) -> None:
        super().__init__()
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f'num_classes must be a whole number of at least '
                             f'1, got {num_classes!r}')
        if [len(widths) for widths in exit_channels] != \
                [len(kind) for kind in kinds]:
            raise ValueError(
                f'exit_channels must hold one width for each vector pooled '
                f'at the exits {tuple(kinds)}, got {tuple(exit_channels)!r}')
        # In the weights, so that others cannot take them.
        self.register_buffer('boosting', _factor(boosting))
        self.num_classes = num_classes
        self.num_exits = len(kinds)
        self.logits_dtype: Optional[torch.dtype] = None
        # Which exits take in the logits of an earlier one, and of which.
        self._receives = _transfers(kinds) if fkt else {}
        widths = [sum(channels) for channels in exit_channels]
        self.fkt: Optional[nn.ModuleList] = None
        if self._receives:
            # As wide as the latents of the first exit that takes logits in.
            transferred = widths[min(self._receives)]
            self.fkt = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(num_classes, transferred),
                    nn.BatchNorm1d(transferred), nn.ReLU(inplace=True))
                for _ in self._receives)
            for receiver in self._receives:
                widths[receiver] += transferred
        # This order decides which random numbers a seed gives to whom.
        order = sorted(range(self.num_exits), key=lambda k: kinds[k] == 'z')
        built = {
            k:
            _classifier(kinds[k], widths[k], num_classes, hidden_channels,
                        dropout)
            for k in order
        }
        self.classifiers = nn.ModuleList(built[k] for k in sorted(built))
        if init_std is not None:
            _init_finals(self.classifiers, kinds, init_std)

    def step(
            self,
            index: int,
            features: Sequence[Tensor],
            knowledge: Optional[Tensor] = None
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """Classify at one exit, 0-based: pooled vectors (B, C) and what
        earlier exits handed on, if anything -> the logits (B, K), and what is
        handed on: logits (B, K) for FKT or to be added to, (B, 2 * K) for
        both."""
        inputs = list(features)
        total = knowledge
        if self.fkt is not None and self.boosting is not None and \
                knowledge is not None:
            knowledge, total = knowledge.split(self.num_classes, 1)
        if self.fkt is not None and index in self._receives:
            place = list(self._receives).index(index)
            inputs.append(self.fkt[place](knowledge))
        vector = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=1)
        logits = self.classifiers[index](vector)
        if self.boosting is not None and total is not None:
            logits = logits + self.boosting * total.detach()
        if self.fkt is not None and index in self._receives.values():
            knowledge = logits
        if self.boosting is not None and index < self.num_exits - 1:
            # An exit on features has nothing to transfer, but adds up.
            knowledge = logits if self.fkt is None else torch.cat(
                [logits if knowledge is None else knowledge, logits], 1)
        if self.logits_dtype is not None:
            logits = logits.to(self.logits_dtype)
        return logits, knowledge

    def forward(self,
                features: Sequence[Sequence[Tensor]]) -> Tuple[Tensor, ...]:
        """Logits (B, K) of every exit, of what ``Trunk`` returns."""
        knowledge = None
        all_logits = []
        for index, vectors in enumerate(features):
            logits, knowledge = self.step(index, vectors, knowledge)
            all_logits.append(logits)
        return tuple(all_logits)


def _init_finals(classifiers: Any, kinds: Sequence[str], std: float) -> None:
    """Draw the last weights of the exits that read features alone."""
    for kind, classifier in zip(kinds, classifiers):
        if kind == 'x':
            nn.init.normal_(classifier[-1].weight, std=std)
            nn.init.zeros_(classifier[-1].bias)


def _factor(boosting: Optional[float]) -> Optional[Tensor]:
    """What the answer of the exit before is multiplied by."""
    if boosting is None:
        return None
    if not boosting > 0:
        raise ValueError(f'boosting must be above 0, or None for exits that '
                         f'answer alone, got {boosting!r}')
    return torch.tensor(float(boosting))


def _transfers(kinds: Sequence[str]) -> Dict[int, int]:
    """Receiving exit -> giving exit: the last one before it on latents."""
    transfers = {}
    giver = None
    for index, kind in enumerate(kinds):
        if 'z' in kind and giver is not None:
            transfers[index] = giver
        if kind == 'z':
            giver = index
    return transfers


def _classifier(kind: str, width: int, num_classes: int,
                hidden_channels: Optional[int], dropout: float) -> nn.Module:
    """The classifier of one exit."""
    if kind == 'z':
        return nn.Linear(width, num_classes)
    norm: List[nn.Module] = [nn.BatchNorm1d(width)] if kind == 'xz' else []
    if hidden_channels is not None:
        return nn.Sequential(*norm, nn.Linear(width, hidden_channels),
                             nn.Hardswish(), nn.Dropout(dropout),
                             nn.Linear(hidden_channels, num_classes))
    return nn.Sequential(*(norm or [nn.Dropout(dropout)]),
                         nn.Linear(width, num_classes))
