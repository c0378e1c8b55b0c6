# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A video of which frames are decoded one by one, when they are asked for."""
import copy
from typing import Any, Dict, List, Sequence

import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform
from torch import Tensor

from ..errors import InputError

__all__ = ['LazyVideo']

# Those that decode the frames they are told, wherever these are.
DECODERS = ('DecordDecode', 'OpenCVDecode', 'RawFrameDecode')


class LazyVideo:
    """A video behind a test pipeline that is run frame by frame.

    What stands before the step that decodes (open the file, choose frames) is
    run at once, and the rest for each frame alone. Decord and OpenCV also
    decode what a frame is coded from, back to the last key frame; of a folder
    of frames no other file is opened.

    Args:
        pipeline (Sequence[dict | Callable]): The transforms, as in
            ``test_dataloader.dataset.pipeline``: those of MMAction2 with one
            crop, and ``clip_len=1``.
        info (dict): What the first takes, such as ``dict(filename=...)``.

    Raises:
        InputError: If no step decodes frames one by one, or the steps before
            it do not choose single frames.
    """

    def __init__(self, pipeline: Sequence[Any], info: Dict[str, Any]) -> None:
        steps: List[BaseTransform] = [
            TRANSFORMS.build(step) if isinstance(step, dict) else step
            for step in pipeline
        ]
        names = [type(step).__name__ for step in steps]
        places = [k for k, name in enumerate(names) if name in DECODERS]
        if len(places) != 1:
            raise InputError(
                f'the pipeline must have one of {", ".join(DECODERS)}, which '
                f'decode single frames, got {", ".join(names)}')
        self._info = {'modality': 'RGB', 'start_index': 0, **info}
        for step in steps[:places[0]]:
            self._info = step(self._info)
        self._steps = steps[places[0]:]
        if self._info.get('clip_len') != 1:
            raise InputError(
                f'SampleFrames must choose single frames (clip_len=1), got '
                f'clip_len={self._info.get("clip_len")!r}')
        self._chosen = np.ravel(self._info['frame_inds'])

    def __len__(self) -> int:
        """How many frames are chosen."""
        return len(self._chosen)

    def frame(self, number: int) -> Tensor:
        """Decode one of the chosen frames, (1, 3, H, W), uint8.

        Raises:
            InputError: If the pipeline makes several images of it.
        """
        # The reader stays open, which the step that decodes would forget.
        results = copy.copy(self._info)
        results.update(frame_inds=self._chosen[[number]], num_clips=1)
        for step in self._steps:
            results = step(results)
        images = results.get('inputs')
        shape = getattr(images, 'shape', ())
        if len(shape) != 4 or shape[0] != 1:
            raise InputError(
                f'the pipeline must make one image (1, 3, H, W) of a frame, '
                f'got the shape {tuple(shape)}: take one crop, and end it '
                f"with FormatShape (input_format='NCHW') and PackActionInputs")
        return images
