# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Pictures of detections that stopped early and late."""
import os
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple, Union

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.ops import box_iou

from ..report.figure import drawable, font_file, short
from ..report.gallery import GalleryImage, plot_gallery

__all__ = ['Match', 'draw_detections', 'match_boxes', 'plot_detections']

# Boxes below are not shown.
MIN_SCORE = 0.3
MIN_SIDE = 288
RIGHT, WRONG, MISSED = (0, 150, 100), (215, 50, 20), (255, 255, 255)


class Match(NamedTuple):
    """Which of the boxes are right.

    Args:
        right (Tensor): For each predicted box (P,), boolean.
        found (Tensor): For each true box (T,), boolean.
    """

    right: Tensor
    found: Tensor


def match_boxes(predicted: InstanceData,
                truth: InstanceData,
                min_overlap: float = 0.5) -> Match:
    """Pair predicted with true boxes of their class, the surest first.

    A pair's intersection over union is at least ``min_overlap``.
    """
    right = torch.zeros(len(predicted), dtype=torch.bool)
    found = torch.zeros(len(truth), dtype=torch.bool)
    overlaps = box_iou(predicted.bboxes, truth.bboxes)
    same = predicted.labels[:, None] == truth.labels[None]
    for row in predicted.scores.argsort(descending=True).tolist():
        free = overlaps[row] * (same[row] & ~found)
        if len(free) and free.max() >= min_overlap:
            right[row] = found[free.argmax()] = True
    return Match(right, found)


def draw_detections(pixels: np.ndarray, predicted: InstanceData,
                    truth: InstanceData, match: Match,
                    classes: Sequence[str]) -> np.ndarray:
    """Draw boxes: right ones green, wrong ones red, missed ones white.

    The RGB pixels (H, W, 3), uint8, are copied, and small images enlarged.
    """
    scale = max(1, -(-MIN_SIDE // max(pixels.shape[:2])))
    canvas = cv2.resize(
        pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    width = max(2, round(max(image.size) / 120))
    boxes = [(box, MISSED, '') for box in truth.bboxes[~match.found]]
    boxes += [(box, RIGHT if ok else WRONG,
               drawable(str(classes[label]), f'class {label}'))
              for box, ok, label in zip(predicted.bboxes, match.right.tolist(),
                                        predicted.labels.tolist())]
    corners = [(box * scale).round().tolist() for box, _, _ in boxes]
    for corner, (_, colour, _) in zip(corners, boxes):
        draw.rectangle(corner, outline=colour, width=width)
    # Above all boxes: names that boxes cross cannot be read.
    for corner, (_, colour, name) in zip(corners, boxes):
        if name:
            _draw_tag(draw, image.size, corner, colour, name)
    return np.asarray(image)


def _draw_tag(draw: ImageDraw.ImageDraw, size: Tuple[int, int],
              corner: Sequence[float], colour: Tuple[int, int,
                                                     int], name: str) -> None:
    """Write the name of a class above its box, or else inside it."""
    font = ImageFont.truetype(font_file(name), round(0.07 * max(size)))
    left, top, right, bottom = font.getbbox(short(name, 18))
    wide, high = right - left + 6, bottom - top + 6
    x = max(0., min(corner[0], size[0] - wide))
    y = corner[1] - high if corner[1] >= high else corner[1]
    draw.rectangle((x, y, x + wide, y + high), fill=colour)
    draw.text((x + 3 - left, y + 3 - top),
              short(name, 18),
              fill=(255, 255, 255),
              font=font)


def plot_detections(groups: Dict[str, List[Tuple[Any, InstanceData,
                                                 InstanceData]]],
                    classes: Sequence[str],
                    path: Union[str, os.PathLike],
                    title: str = '') -> None:
    """Draw groups of images with their boxes below each other, as a PNG file.

    Args:
        groups (dict[str, list]): Heading -> images; of each its RGB pixels,
            the predicted boxes and the true ones.
        classes (Sequence[str]): Names of the classes.
    """
    drawn: Dict[str, List[GalleryImage]] = {}
    for heading, images in groups.items():
        drawn[heading] = []
        for pixels, predicted, truth in images:
            shown = predicted[predicted.scores >= MIN_SCORE]
            match = match_boxes(shown, truth)
            hits, wrong = int(match.right.sum()), int((~match.right).sum())
            caption = f'{hits} of {len(truth)} found'
            if wrong:
                caption += f', {wrong} wrong'
            drawn[heading].append(
                GalleryImage(
                    draw_detections(pixels, shown, truth, match, classes),
                    str(len(truth)), str(hits - wrong), 1., caption))
    plot_gallery(drawn, path, title, columns=6, side=1.75)
