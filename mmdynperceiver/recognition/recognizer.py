# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The recognizer: a video decides and leaves as a whole."""
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from mmaction.models.recognizers import Recognizer2D
from mmaction.registry import MODELS
from torch import Tensor, nn

from ..core import Prediction
from ..hosts.exit_model import EarlyExitModel, build_head, refuse_neck

__all__ = ['DynPerceiverRecognizer']

# Options of Recognizer2D's test_cfg that would cut a video in pieces.
CUTTING_OPTIONS = ('fcn_test', 'max_testing_views')


@MODELS.register_module()
class DynPerceiverRecognizer(EarlyExitModel, Recognizer2D):
    """Dynamic Perceiver as a 2D recognizer with temporal shift.

    A video leaves with all its frames, crops and clips, by the confidence of
    their averaged logits.

    Args:
        backbone (dict): Config of :class:`DynPerceiverTSM`.
        cls_head (dict): Config of :class:`DynPerceiverTSMHead`; what depends
            on the backbone may be left out.
        thresholds, exit_index, branch_first: See
            :class:`~mmdynperceiver.hosts.exit_model.EarlyExitModel`.
        data_preprocessor, train_cfg, test_cfg: As for ``Recognizer2D``.
        neck (None): There is no place for one. Defaults to None.

    Raises:
        FileNotFoundError: If there is no such thresholds file.
        ValueError: If an argument does not fit.
    """

    head_name = 'cls_head'
    # What a config's head is that does not say it.
    head_kind = 'mmaction.DynPerceiverTSMHead'

    def __init__(self,
                 backbone: Dict[str, Any],
                 cls_head: Dict[str, Any],
                 thresholds: Union[Sequence[float], str, None] = None,
                 exit_index: Optional[int] = None,
                 data_preprocessor: Union[dict, nn.Module, None] = None,
                 train_cfg: Optional[dict] = None,
                 test_cfg: Optional[dict] = None,
                 neck: None = None,
                 exit: Optional[int] = None,
                 branch_first: float = 0.) -> None:
        refuse_neck(neck)
        for option in CUTTING_OPTIONS:
            if (test_cfg or {}).get(option):
                raise ValueError(
                    f'test_cfg.{option} cuts a video in pieces, but it '
                    f'decides as a whole: leave it out, and lower the batch '
                    f'size where memory is short')
        if not isinstance(data_preprocessor, nn.Module):
            # In MMAction2's scope, whatever the default scope is.
            data_preprocessor = MODELS.build({
                'type': 'mmaction.ActionDataPreprocessor',
                **(data_preprocessor or {})
            })
        super().__init__(
            backbone=backbone,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            data_preprocessor=data_preprocessor)
        self.cls_head = build_head(MODELS, self.head_kind, self.backbone,
                                   cls_head)
        self.policy = self.make_policy(thresholds, exit_index, exit)
        self.make_branch_classifier(branch_first)

    def extract_feat(self, inputs: Tensor, **kwargs: Any) -> tuple:
        """Vectors that the exits classify, as ``Recognizer2D`` gives them.

        Raises:
            ValueError: If M does not hold whole clips.
        """
        self._check_clips(inputs)
        # The host views it.
        return super().extract_feat(inputs.contiguous(), **kwargs)

    def run_exits(self,
                  inputs: Tensor) -> Tuple[Prediction, Optional[List[Tensor]]]:
        """Run as deep as the policy demands; see :class:`EarlyExitModel`."""
        self._check_clips(inputs)
        return super().run_exits(inputs)

    def _check_clips(self, inputs: Tensor) -> None:
        """Refuse videos from which no whole clips can be made."""
        frames = self.backbone.num_segments
        if inputs.ndim != 5:
            raise ValueError(
                f'videos must have the shape (B, M, 3, H, W), got '
                f"{tuple(inputs.shape)}: end the pipeline with FormatShape's "
                f"input_format='NCHW' and PackActionInputs")
        if inputs.shape[1] % frames:
            raise ValueError(
                f'{inputs.shape[1]} images of a video do not make up clips of '
                f'{frames} frames: set num_clips={frames} of SampleFrames '
                f'(crops and twice_sample multiply it), or '
                f'model.backbone.num_segments')
