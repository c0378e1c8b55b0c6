# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Where each exit looks: class-activation maps through the trunk."""
from typing import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.protocols import EarlyExitNetwork, ExitClassifiers

__all__ = ['activation_maps', 'exit_maps', 'resized']


def activation_maps(model: EarlyExitNetwork,
                    images: Tensor,
                    classes: Tensor | None = None) -> Tensor:
    """Map at each exit which places speak for a class.

    HiResCAM (arXiv 2011.08891): a feature map times the gradient of the
    exit's score of the class is summed over channels, and what is negative
    is cut off. Where the features are averaged over places, this is Grad-CAM
    (arXiv 1610.02391); where latents read them by attention, the gradient
    differs from place to place, and Grad-CAM's mean of it would blur that.
    For an exit that classifies latents the features are those which the
    latents read last (of the published network those that enter stage 3 for
    exit 0, stage 4 for exit 1).

    Args:
        model (DynPerceiver | DynPerceiverClassifier): In eval mode.
        images (Tensor): Normalised (B, 3, H, W), on the model's device.
        classes (Tensor, optional): Class of each image (B,), or at each exit
            (num_exits, B). Defaults to None, what each exit predicts.

    Returns:
        Tensor: Maps (num_exits, B, H, W) in [0, 1], each with the maximum 1;
        all 0 where nothing speaks for the class.

    Raises:
        RuntimeError: If the model is in training mode.
        ValueError: If the classes do not fit.
    """
    size = images.shape[2:]
    return torch.stack(
        [resized(found, size) for found in exit_maps(model, images, classes)])


def exit_maps(model: EarlyExitNetwork,
              images: Tensor,
              classes: Tensor | None = None) -> list[Tensor]:
    """Activation maps (B, h, w) of the size of the features of each exit.

    For the rest see :func:`activation_maps`; these are not scaled.
    """
    if model.training:
        raise RuntimeError('activation maps need the model in eval mode: call '
                           'eval() first')
    trunk, exits = model.exit_parts()
    classes = _check_classes(classes, exits, images)
    maps: list[Tensor] = []
    # Maps need gradients even where the caller has switched them off.
    with torch.inference_mode(False), torch.enable_grad():
        state = trunk.initial_state(images.detach().clone().requires_grad_())
        read: list[Tensor] = []
        hooks = [
            stage.x2z.register_forward_pre_hook(
                lambda module, inputs: read.append(inputs[0]))
            for stage in getattr(trunk, 'stages', ())
            if getattr(stage, 'x2z', None) is not None
        ]
        knowledge = None
        try:
            for index in range(exits.num_exits):
                state, features = trunk.segment(index, state)
                logits, knowledge = exits.step(index, features, knowledge)
                wanted = logits.argmax(1) if classes is None else \
                    classes[index]
                score = logits.gather(1, wanted[:, None]).sum()
                # A vector of latents is a mean over tokens, one of features
                # a mean over places.
                on_features = 'x' in trunk.exit_kinds[index]
                place = state[0] if on_features else read[-1]
                gradient, = torch.autograd.grad(
                    score, place, retain_graph=True)
                maps.append((gradient * place).sum(1).relu().detach())
        finally:
            for hook in hooks:
                hook.remove()
    return maps


def _check_classes(classes: Tensor | None, exits: ExitClassifiers,
                   images: Tensor) -> Tensor | None:
    """Classes of each image at each exit."""
    if classes is None:
        return None
    classes = torch.as_tensor(classes, device=images.device).long()
    shape = (exits.num_exits, len(images))
    if classes.shape not in (shape, shape[1:]) or (
            classes.numel() and not 0 <= int(classes.min()) <= int(
                classes.max()) < exits.num_classes):
        raise ValueError(
            f'classes must be 0 to {exits.num_classes - 1}, of the shape '
            f'{shape[1:]} or {shape}, got {classes.tolist()}')
    return classes.expand(shape)


def resized(found: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, h, w) at the size (H, W) of their images, at most 1."""
    cam = F.interpolate(
        found[:, None].float(),
        size=tuple(size),
        mode='bilinear',
        align_corners=False)
    peak = cam.amax((1, 2, 3), keepdim=True)
    return (cam / peak.clamp(min=torch.finfo(cam.dtype).tiny))[:, 0]
