# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What an exported network says of images."""
from typing import Any, Dict, NamedTuple, Optional, Set

import numpy as np

from .sessions import bucket

__all__ = ['Outcome', 'Result', 'sizes_met']


class Outcome(NamedTuple):
    """What a batch of normalised images gets.

    Args:
        logits (ndarray): Logits (B, K) of the exit at which each image left.
        exit_index (ndarray): That exit (B,), 0-based.
        confidence (ndarray): Confidence (B,) at that exit.
        milliseconds (ndarray): From the start of the batch until the image
            left (B,).
    """

    logits: np.ndarray
    exit_index: np.ndarray
    confidence: np.ndarray
    milliseconds: np.ndarray

    def sizes(self) -> Set[tuple]:
        """The sizes of batches that it took."""
        return sizes_met(self.exit_index)

    def put(self, rows: Any, *values: Any) -> None:
        """Set some rows of all fields, in their order."""
        for field, value in zip(self, values):
            field[rows] = value


def sizes_met(exit_index: np.ndarray, *more: int) -> Set[tuple]:
    """Sizes of batches that segments meet where images leave at these exits
    (B,): the segment's number, that of the images with padding, and more."""
    return {(index, bucket(int((exit_index >= index).sum())), *more)
            for index in range(int(exit_index.max()) + 1)}


class Result(NamedTuple):
    """What one image gets.

    Args:
        path (str, optional): Its file; None for an image in memory.
        label (int): Number of the class.
        name (str): Name of the class.
        score (float): Softmax probability of the class.
        scores (ndarray): Softmax probabilities (K,) of all classes.
        exit_index (int): Where it left, 0-based.
        confidence (float): Confidence there.
        macs (int): Multiply-adds that it took.
        milliseconds (float): From the start of its batch, with normalised
            pixels, until it left.
        preparing_milliseconds (float): Decoding, resizing and normalising.
    """

    path: Optional[str]
    label: int
    name: str
    score: float
    scores: np.ndarray
    exit_index: int
    confidence: float
    macs: int
    milliseconds: float
    preparing_milliseconds: float

    def row(self) -> Dict[str, Any]:
        """What is written of it."""
        return dict(self._asdict(), scores=self.scores.tolist())
