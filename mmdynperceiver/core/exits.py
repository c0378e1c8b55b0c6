# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exits: classifiers and the forward knowledge transfer between them."""
from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

__all__ = ['Exits']


class Exits(nn.Module):
    """Four classifiers over pooled vectors; they never see an image.

    Exit 0 classifies the pooled latents of stage 3 and exit 1 those of stage
    4; exit 2 is the feature branch's own classifier and exit 3 joins both
    branches behind a batch norm. Forward knowledge transfer (FKT) hands the
    logits of exit 0 to exit 1, and those of exit 1 to exit 3.

    Args:
        exit_channels (Sequence[Sequence[int]]): Widths of the vectors of
            each exit (``Trunk.exit_channels``).
        num_classes (int): Number K of classes.
        fkt (bool): Whether to transfer knowledge. Defaults to True.
        hidden_channels (int, optional): Width of the hidden layer of exits 2
            and 3. Defaults to None, no hidden layer.
        dropout (float): Dropout rate of exits 2 and 3; without a hidden
            layer only exit 2 has it. Defaults to 0.
        init_std (float, optional): Standard deviation of exit 2's initial
            weights; None keeps PyTorch's. Defaults to None.

    Raises:
        ValueError: If ``num_classes`` or ``exit_channels`` does not fit.
    """

    num_exits = 4
    # Which exits take in the transferred logits of an earlier one, and which
    # logits are handed on: exit 2 stands aside.
    _receives = {1: 0, 3: 1}

    def __init__(self,
                 exit_channels: Sequence[Sequence[int]],
                 num_classes: int,
                 fkt: bool = True,
                 hidden_channels: Optional[int] = None,
                 dropout: float = 0.,
                 init_std: Optional[float] = None) -> None:
        super().__init__()
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f'num_classes must be a whole number of at least '
                             f'1, got {num_classes!r}')
        if len(exit_channels) != self.num_exits:
            raise ValueError(
                f'exit_channels must hold the widths of {self.num_exits} '
                f'exits, got {tuple(exit_channels)!r}')
        self.num_classes = num_classes
        widths = [sum(channels) for channels in exit_channels]
        transferred = widths[1]
        self.fkt: Optional[nn.ModuleList] = None
        if fkt:
            self.fkt = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(num_classes, transferred),
                    nn.BatchNorm1d(transferred), nn.ReLU(inplace=True))
                for _ in self._receives)
            for receiver in self._receives:
                widths[receiver] += transferred
        merge = nn.BatchNorm1d(widths[3])
        if hidden_channels is None:
            deep: List[list] = [[
                nn.Dropout(dropout),
                nn.Linear(widths[2], num_classes)
            ], [merge, nn.Linear(widths[3], num_classes)]]
        else:
            deep = [[
                *norm,
                nn.Linear(width, hidden_channels),
                nn.Hardswish(),
                nn.Dropout(dropout),
                nn.Linear(hidden_channels, num_classes)
            ] for norm, width in (((), widths[2]), ((merge, ), widths[3]))]
        self.classifiers = nn.ModuleList([
            nn.Linear(widths[0], num_classes),
            nn.Linear(widths[1], num_classes),
            nn.Sequential(*deep[0]),
            nn.Sequential(*deep[1]),
        ])
        if init_std is not None:
            final = deep[0][-1]
            nn.init.normal_(final.weight, std=init_std)
            nn.init.zeros_(final.bias)

    def step(
            self,
            index: int,
            features: Sequence[Tensor],
            knowledge: Optional[Tensor] = None
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """Classify at one exit.

        Args:
            index (int): Exit number, 0 to 3.
            features (Sequence[Tensor]): Pooled vectors (B, C) of this exit.
            knowledge (Tensor, optional): Logits (B, K) handed on by an
                earlier exit; None before exit 0 and without FKT.

        Returns:
            tuple: The logits (B, K), and the knowledge for the exits behind.
        """
        inputs = list(features)
        if self.fkt is not None and index in self._receives:
            inputs.append(self.fkt[self._receives[index]](knowledge))
        vector = inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=1)
        logits = self.classifiers[index](vector)
        if self.fkt is not None and index in self._receives.values():
            knowledge = logits
        return logits, knowledge

    def forward(self,
                features: Sequence[Sequence[Tensor]]) -> Tuple[Tensor, ...]:
        """Classify at every exit.

        Args:
            features (Sequence[Sequence[Tensor]]): What ``Trunk`` returns.

        Returns:
            tuple[Tensor]: Logits (B, K), shallow to deep.
        """
        knowledge = None
        all_logits = []
        for index, vectors in enumerate(features):
            logits, knowledge = self.step(index, vectors, knowledge)
            all_logits.append(logits)
        return tuple(all_logits)
