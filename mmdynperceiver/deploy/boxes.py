# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From what a dense head returns to boxes, in NumPy, as MMDetection does it.

The tests compare the two.
"""
import math
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from .policy import sigmoid

__all__ = ['BoxDecoder', 'Boxes', 'overlaps', 'suppress']

# Logits that lie so close to that of the least score are looked at again.
MARGIN = 1e-3


class Boxes(NamedTuple):
    """Boxes of one image, the surest first: ``boxes`` (N, 4), in pixels, x1,
    y1, x2, y2; ``scores`` (N,); ``labels`` (N,), numbers of classes."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class BoxDecoder:
    """Decode the outputs of an anchor head, and suppress what overlaps.

    Args:
        num_classes (int): Number of classes K.
        anchors (Sequence): For each level its A anchors around the origin,
            x1, y1, x2, y2.
        strides (Sequence): For each level the step between places, in x and
            y.
        means, stds (Sequence[float]): Of the four numbers that boxes are
            coded by.
        max_ratio (float): The largest logarithm of how much larger or smaller
            a box is than its anchor.
        score_thr (float): Boxes of no larger score are dropped.
        nms_pre (int): Most boxes of a level.
        iou_threshold (float): Of boxes of a class that overlap more, the
            surest one stays.
        max_per_img (int): Most boxes of an image.
        min_bbox_size (float): Boxes no wider, or no higher, are dropped;
            negative, none are. Defaults to -1.
    """

    def __init__(self,
                 num_classes: int,
                 anchors: Sequence[Sequence[Sequence[float]]],
                 strides: Sequence[Sequence[float]],
                 means: Sequence[float],
                 stds: Sequence[float],
                 max_ratio: float,
                 score_thr: float,
                 nms_pre: int,
                 iou_threshold: float,
                 max_per_img: int,
                 min_bbox_size: float = -1) -> None:
        self.num_classes = num_classes
        self.anchors = [np.asarray(level, np.float32) for level in anchors]
        self.strides = [np.asarray(stride, np.float32) for stride in strides]
        self.means = np.asarray(means, np.float32)
        self.stds = np.asarray(stds, np.float32)
        self.max_ratio = np.float32(max_ratio)
        self.score_thr = score_thr
        self.nms_pre = nms_pre
        self.iou_threshold = iou_threshold
        self.max_per_img = max_per_img
        self.min_bbox_size = min_bbox_size
        self._least = -np.inf if score_thr <= 0 else \
            math.log(score_thr / (1 - score_thr)) - MARGIN

    def __call__(self, scores: Sequence[np.ndarray],
                 deltas: Sequence[np.ndarray], size: Sequence[int],
                 scale: Sequence[float]) -> Boxes:
        """Boxes of one image, as it was before it was resized.

        Args:
            scores (Sequence[ndarray]): Logits (A * K, h, w) of each level.
            deltas (Sequence[ndarray]): Coded boxes (A * 4, h, w).
            size (Sequence[int]): Height and width of the resized image,
                without padding.
            scale (Sequence[float]): How much wider and higher it is than
                before.
        """
        found = [
            self._level(level, *maps, size)
            for level, maps in enumerate(zip(scores, deltas))
        ]
        boxes, values, labels = map(np.concatenate, zip(*found))
        boxes = boxes * np.array([1 / s for s in (*scale, *scale)], np.float32)
        if self.min_bbox_size >= 0:
            large = (boxes[:, 2:] - boxes[:, :2] > self.min_bbox_size).all(1)
            boxes, values, labels = boxes[large], values[large], labels[large]
        kept = suppress(boxes, values, labels, self.iou_threshold,
                        self.max_per_img)
        return Boxes(boxes[kept], values[kept], labels[kept])

    def _level(self, level: int, logits: np.ndarray, deltas: np.ndarray,
               size: Sequence[int]) -> Tuple[np.ndarray, ...]:
        """The surest boxes of a level, with their scores and labels."""
        width, anchors = logits.shape[2], self.anchors[level]
        # [A * K, h, w] -> [h * w * A, K]
        logits = logits.transpose(1, 2, 0).reshape(-1, self.num_classes)
        # Of most places nothing but this is asked.
        rows, labels = np.nonzero(logits > self._least)
        values = sigmoid(logits[rows, labels])
        sure = np.flatnonzero(values > self.score_thr)
        order = sure[np.argsort(-values[sure], kind='stable')[:self.nms_pre]]
        rows, labels, values = rows[order], labels[order], values[order]
        cells, kinds = np.divmod(rows, len(anchors))
        places = np.stack([cells % width, cells // width], 1)
        corner = places.astype(np.float32) * self.strides[level]
        priors = anchors[kinds] + np.concatenate([corner, corner], 1)
        # [A * 4, h, w] -> [h * w * A, 4]
        coded = deltas.transpose(1, 2, 0).reshape(-1, 4)[rows]
        return self._decode(priors, coded, size), values, labels

    def _decode(self, priors: np.ndarray, coded: np.ndarray,
                size: Sequence[int]) -> np.ndarray:
        """Boxes (N, 4), inside of the image, of coded ones."""
        coded = coded * self.stds + self.means
        centre = (priors[:, :2] + priors[:, 2:]) * np.float32(.5)
        extent = priors[:, 2:] - priors[:, :2]
        centre = centre + extent * coded[:, :2]
        ratios = coded[:, 2:].clip(-self.max_ratio, self.max_ratio)
        half = extent * np.exp(ratios) * np.float32(.5)
        boxes = np.concatenate([centre - half, centre + half], 1)
        height, width = size
        return boxes.clip(0,
                          np.array([width, height, width, height], np.float32))


def suppress(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray,
             iou_threshold: float, most: int) -> List[int]:
    """Which boxes (N, 4) stay, the surest first, at most so many.

    Those of a class that overlap a surer one by more than the threshold go.
    """
    if not len(boxes):
        return []
    # Apart, so that classes do not meet.
    boxes = boxes + (labels.astype(np.float32) * (boxes.max() + 1))[:, None]
    areas = _areas(boxes)
    order = np.argsort(-scores, kind='stable')
    kept: List[int] = []
    while len(order) and len(kept) < most:
        first, order = order[0], order[1:]
        kept.append(int(first))
        shared = _shared(boxes[first], boxes[order])
        union = areas[first] + areas[order] - shared
        # A product: boxes may be empty.
        order = order[shared <= iou_threshold * union]
    return kept


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which part of their union boxes (N, 4) and others (M, 4) share: (N, M),
    0 for empty ones."""
    shared = _shared(boxes[:, None], others)
    union = _areas(boxes)[:, None] + _areas(others) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _areas(boxes: np.ndarray) -> np.ndarray:
    """Boxes (..., 4) -> areas (...)."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)


def _shared(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The areas that boxes (..., 4) share with others (..., 4)."""
    left = np.maximum(boxes[..., :2], others[..., :2])
    right = np.minimum(boxes[..., 2:], others[..., 2:])
    return (right - left).clip(0).prod(-1)
