# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Images of the report's pictures, as the network sees them."""
from typing import Any, NamedTuple, Sequence

import numpy as np
import torch
from PIL import Image

__all__ = ['FileImages', 'PipelineImages', 'Sample']

STRIP_FRAMES = 4


class Sample(NamedTuple):
    """One image, or some frames of a clip side by side."""

    pixels: Any  # RGB (H, W, 3), uint8
    inputs: Any = None  # what the network takes (3, H, W), if known


class FileImages:
    """Images read from files; called with a number it gives a sample.

    Args:
        paths (Sequence[str]): One file for each sample.
        size (int): Larger ones are shrunk to so many pixels. Defaults to 224.
    """

    def __init__(self, paths: Sequence[str], size: int = 224) -> None:
        self.paths = paths
        self.size = size

    def __call__(self, index: int) -> Sample:
        """Read one image."""
        with Image.open(self.paths[index]) as file:
            image = file.convert('RGB')
        image.thumbnail((self.size, self.size))
        return Sample(np.asarray(image))


class PipelineImages:
    """Images of a data set of OpenMMLab, after its transforms.

    Args:
        dataset (Dataset): Gives dicts with ``inputs``, in the order of the
            logits: images (3, H, W), BGR, as ``PackInputs`` makes them, or
            the frames of videos (M, 3, H, W), RGB, as ``PackActionInputs``
            does.
        model (nn.Module): Whose ``data_preprocessor`` normalises.
    """

    def __init__(self, dataset: Any, model: Any) -> None:
        self.dataset = dataset
        self.preprocessor = model.data_preprocessor

    @property
    def unit(self) -> str:
        """What the network takes: 'image', or 'clip' of a video."""
        return 'clip' if self.dataset[0]['inputs'].ndim == 4 else 'image'

    def __call__(self, index: int) -> Sample:
        """Load one image and normalise it; of a video, some frames."""
        item = self.dataset[index]
        raw = item['inputs']
        if raw.ndim == 4:
            # [M, 3, H, W] -> [T, 3, H, W], evenly spaced -> [H, T * W, 3]
            chosen = torch.linspace(0, len(raw) - 1, STRIP_FRAMES).round()
            strip = raw[chosen.long()].permute(2, 0, 3, 1).flatten(1, 2)
            return Sample(strip.numpy().astype(np.uint8))
        pixels = raw.permute(1, 2, 0).flip(-1)
        batch = dict(inputs=raw[None], data_samples=[item['data_samples']])
        with torch.no_grad():
            inputs = self.preprocessor(batch, training=False)['inputs']
        return Sample(pixels.numpy().astype(np.uint8), inputs[0])
