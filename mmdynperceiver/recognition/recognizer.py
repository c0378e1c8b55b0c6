# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The recognizer: a video decides and leaves as a whole."""
from typing import Any, Dict, Optional, Sequence, Tuple, Union

from mmaction.models.recognizers import Recognizer2D
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmaction.utils import SampleList
from torch import Tensor, nn

from ..core.early_exit import running_stats_for_one
from ..hosts.exit_head import exit_settings
from ..hosts.exit_model import EarlyExitModel

__all__ = ['DynPerceiverRecognizer']

# Options of Recognizer2D's test_cfg that would cut a video in pieces.
CUTTING_OPTIONS = ('fcn_test', 'max_testing_views')


@MODELS.register_module()
class DynPerceiverRecognizer(EarlyExitModel, Recognizer2D):
    """Dynamic Perceiver as a 2D recognizer with temporal shift.

    Without thresholds all videos run to the last exit. With thresholds each
    video runs only until it leaves, with all its frames, crops and clips,
    and the others go on as a smaller batch, unless ``evaluate_all_exits`` is
    set (as :class:`~mmdynperceiver.hosts.hooks.EvaluateAllExitsHook` does):
    then everything runs once and the thresholds are replayed.

    Args:
        backbone (dict): Config of :class:`DynPerceiverTSM`.
        cls_head (dict): Config of :class:`DynPerceiverTSMHead`; what depends
            on the backbone may be left out.
        thresholds (Sequence[float] | str, optional): One for each exit but
            the last, compared with the largest softmax probability of the
            averaged logits, or the JSON file of an operating point. None
            takes those of the checkpoint, if it has any. Defaults to None.
        exit (int, optional): The one exit at which all videos leave,
            0-based, instead of thresholds. Defaults to None.
        data_preprocessor (dict, optional): As for ``Recognizer2D``. Defaults
            to None.
        train_cfg (dict, optional): As for ``Recognizer2D``. Defaults to
            None.
        test_cfg (dict, optional): As for ``Recognizer2D``. Defaults to None.
        neck (None): There is no place for one. Defaults to None.

    Raises:
        FileNotFoundError: If there is no such thresholds file.
        ValueError: If an argument does not fit.
    """

    def __init__(self,
                 backbone: Dict[str, Any],
                 cls_head: Dict[str, Any],
                 thresholds: Union[Sequence[float], str, None] = None,
                 exit: Optional[int] = None,
                 data_preprocessor: Union[dict, nn.Module, None] = None,
                 train_cfg: Optional[dict] = None,
                 test_cfg: Optional[dict] = None,
                 neck: None = None) -> None:
        if neck is not None:
            raise ValueError(f'the exits classify what the backbone returns, '
                             f'so there is no neck, got {neck!r}')
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
        self.cls_head = MODELS.build({
            'type': 'mmaction.DynPerceiverTSMHead',
            **exit_settings(self.backbone.net),
            **cls_head
        })
        self.policy = self.make_policy(thresholds, exit)

    def exit_parts(self) -> Tuple[nn.Module, nn.Module]:
        """The trunk and the exits."""
        return self.backbone.net, self.cls_head.exits

    def extract_feat(self, inputs: Tensor, **kwargs: Any) -> tuple:
        """Vectors that the exits classify, as ``Recognizer2D`` gives them.

        Args:
            inputs (Tensor): Normalised images (B, M, 3, H, W), the M =
                crops x clips x frames of a video.
            **kwargs: See ``Recognizer2D.extract_feat``.

        Raises:
            ValueError: If M does not hold whole clips.
        """
        self._check_clips(inputs)
        # The host views it.
        return super().extract_feat(inputs.contiguous(), **kwargs)

    def loss(self, inputs: Tensor, data_samples: SampleList,
             **kwargs: Any) -> dict:
        """Losses of a batch.

        Args:
            inputs (Tensor): Normalised images (B, M, 3, H, W).
            data_samples (list[ActionDataSample]): The targets.
            **kwargs: See ``BaseRecognizer.loss``.

        Returns:
            dict[str, Tensor]: See :meth:`DynPerceiverTSMHead.loss_by_feat`.
        """
        self.drop_loaded_thresholds()
        with running_stats_for_one(self, inputs.shape[0] * inputs.shape[1]):
            return super().loss(inputs, data_samples, **kwargs)

    def predict(self,
                inputs: Tensor,
                data_samples: Optional[SampleList] = None,
                **kwargs: Any) -> SampleList:
        """Predict with the thresholds of the policy.

        Args:
            inputs (Tensor): Normalised images (B, M, 3, H, W).
            data_samples (list[ActionDataSample], optional): To be filled in.
                Defaults to None, new ones.
            **kwargs: What else the host hands on; not used.

        Returns:
            list[ActionDataSample]: See :meth:`DynPerceiverTSMHead.fill`.

        Raises:
            ValueError: If M does not hold whole clips.
        """
        self._check_clips(inputs)
        out, all_logits = self.run_exits(inputs)
        if data_samples is None:
            data_samples = [ActionDataSample() for _ in inputs]
        return self.cls_head.fill(out, data_samples, all_logits,
                                  self.macs_per_exit(inputs.shape[1:]))

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
