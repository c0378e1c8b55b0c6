# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Write a network as one graph per segment, in ONNX or for LiteRT.

This half of the package needs torch and onnx; the runner needs neither.
"""
import os
from typing import (Any, Dict, List, Mapping, NamedTuple, Optional, Sequence,
                    Union)

import numpy as np
import torch
from torch import Tensor

from ..core import ExitPolicy, SegmentedTrunk, macs_per_exit
from ..core.accelerate.copies import copy_model
from ..core.early_exit import LoopState, as_images, run_all_exits, run_step
from ..core.protocols import ExitClassifiers
from ..exit_settings import NEVER
from ..io.atomic import atomic_folder
from .formats import FORMATS, graph_writer, opset_of, versions_of
from .graph_forms import copies_for_export
from .manifest import Manifest, Segment
from .onnxruntime_session import OPSET
from .sessions import open_session
from .tracing import SegmentGraph, as_samples, handed_on
from .video import build_preprocessing
from .video_pipeline import images_of_video

__all__ = [
    'MAX_DIFFERENCE', 'Exported', 'as_exported', 'export_network',
    'export_segments', 'policy_settings', 'verify_segments'
]

# How far logits may lie from PyTorch's, of the largest where it exceeds 1.
MAX_DIFFERENCE = 1e-3
# A batch of one would be taken for a constant.
EXAMPLE_BATCH = 2


class Exported(NamedTuple):
    """What was written: the segments, shallow to deep, and the shape of each
    tensor, with 'batch' first."""

    segments: List[Segment]
    tensors: Dict[str, List[Any]]


def export_network(trunk: SegmentedTrunk,
                   exits: ExitClassifiers,
                   folder: Union[str, os.PathLike],
                   preprocessing: Mapping[str, Any],
                   policy: ExitPolicy,
                   classes: Sequence[str],
                   source: Optional[Mapping[str, Any]] = None,
                   int8_images: Optional[Sequence[str]] = None,
                   int8_test: Optional[str] = None,
                   opset: int = OPSET,
                   file_format: str = 'onnx') -> Manifest:
    """Write a folder that :class:`mmdynperceiver.deploy.Runner` loads.

    It is written whole or not at all, and only if its graphs agree with the
    network.

    Args:
        trunk (SegmentedTrunk): The network without its exits, on any device
            and in any precision: the graphs are made in single precision.
        exits (ExitClassifiers): The classifiers.
        folder (str | PathLike): A new or empty folder.
        preprocessing (Mapping): Arguments of
            :class:`mmdynperceiver.deploy.Preprocessing`, or of
            :class:`mmdynperceiver.deploy.video.VideoPreprocessing`.
        policy (ExitPolicy): Decides who leaves.
        classes (Sequence[str]): Names of the classes.
        source (Mapping, optional): What to say of config and checkpoint.
            Defaults to None, nothing.
        int8_images (Sequence[str], optional): Image files to quantise by.
            Defaults to None, the graphs stay in fp32.
        int8_test (str, optional): Folder with images in a folder for each
            class, to tell what the quantisation costs. Defaults to None: how
            far predictions agree on ``int8_images``.
        opset (int): ONNX's operator set, 18 to 23. Below 23, attention is
            written as products and a softmax, which takes longer, and which
            ONNX Runtime before 1.23 knows. Defaults to 23.
        file_format (str): 'onnx', or 'litert' for telephones: in single
            precision, and of one sample. Defaults to 'onnx'.

    Returns:
        Manifest: What the folder says of itself.

    Raises:
        FileExistsError: If there is something in the folder already.
        ImportError: If a package is missing that the format takes.
        RuntimeError: If the graphs do not agree with the network.
        ValueError: If the network cannot be a graph, there is not one name
            for each class, the images are too small for the network, there
            is no such operator set, or no image to quantise or test by can
            be read. Some that cannot are left out, counted, and named in the
            log.
    """
    _check_graphs(trunk)
    if int8_images is not None and file_format != 'onnx':
        raise ValueError(f'graphs of the format {file_format} are not '
                         f'quantised: leave out int8_images')
    if len(classes) != exits.num_classes:
        raise ValueError(f'the network has {exits.num_classes} classes, got '
                         f'{len(classes)} names')
    shape = [3, *(int(length) for length in preprocessing['size'])]
    if 'video' in preprocessing:
        shape.insert(0, images_of_video(preprocessing['video']))
    trunk, exits = as_exported(trunk), as_exported(exits)
    with atomic_folder(folder) as temporary:
        exported = export_segments(trunk, exits, shape, temporary, opset,
                                   file_format)
        difference = verify_segments(trunk, exits, exported, temporary,
                                     file_format)
        quantization = None
        if int8_images is not None:
            # Imported here: few exports need it.
            from .quantize import quantize
            quantization = quantize(temporary, exported.segments,
                                    build_preprocessing(preprocessing),
                                    classes, int8_images, int8_test)
        manifest = Manifest(
            segments=exported.segments,
            tensors=exported.tensors,
            preprocessing=dict(preprocessing),
            policy=policy_settings(policy),
            # In 8 bits it is another network.
            certificate=dict(policy.certificate)
            if policy.certificate and quantization is None else None,
            classes=[str(name) for name in classes],
            macs_per_exit=list(macs_per_exit(trunk, exits, shape)),
            precision='fp32' if quantization is None else 'int8',
            quantization=quantization,
            source=dict(source or {}, largest_logit_difference=difference),
            versions=versions_of(opset, file_format))
        manifest.save(temporary)
    return manifest


def as_exported(module: Any) -> Any:
    """A module in eval mode, on the CPU and in single precision; a copy, if it
    is not there yet."""
    module.eval()
    tensors = (*module.parameters(), *module.buffers())
    if all(t.device.type == 'cpu' and (
            t.dtype == torch.float32 or not t.is_floating_point())
           for t in tensors):
        return module
    return copy_model(module).cpu().float()


def policy_settings(policy: ExitPolicy) -> Dict[str, Any]:
    """What the runner's policy is made of."""
    thresholds = policy.thresholds
    if thresholds is not None:
        # JSON has no infinity, and no confidence exceeds 1.
        thresholds = tuple(min(value, NEVER) for value in thresholds)
    settings = policy.settings
    # Older runners do not know the new ones.
    for name in ('ensemble', 'stopping'):
        if settings[name] is None:
            del settings[name]
    return dict(settings, thresholds=thresholds)


class _Plan(NamedTuple):
    """One segment before its export: example inputs, and the names of these
    tensors, by argument; the names of the new tensors by the fields of the
    state, and that of the logits."""

    arguments: Dict[str, Tensor]
    sources: Dict[str, str]
    made: Dict[str, str]
    logits: str


def export_segments(trunk: SegmentedTrunk,
                    exits: ExitClassifiers,
                    shape: Sequence[int],
                    folder: str,
                    opset: int = OPSET,
                    file_format: str = 'onnx') -> Exported:
    """Write one graph per segment to a folder, in ONNX with any batch size.

    A tensor that a segment hands on as it got it is no output: the runner
    still has it. Nor is one that no later segment reads.

    Args:
        trunk (SegmentedTrunk): The network without its exits.
        exits (ExitClassifiers): The classifiers.
        shape (Sequence[int]): (3, H, W) of an image, or (M, 3, H, W) of the
            M images of a video, on which the graphs decide together.
        folder (str): Where the graphs go; it must exist.
        opset (int): ONNX's operator set. Defaults to 23.
        file_format (str): 'onnx' or 'litert'. Defaults to 'onnx'.

    Raises:
        ImportError: If a package is missing.
        ValueError: If the images are too small for the network, or there is
            no such operator set.
    """
    write = graph_writer(file_format, opset)
    copied, exits = copies_for_export(trunk, exits, shape[-2:],
                                      opset_of(file_format, opset))
    group = _group(trunk, shape)
    plans, tensors = _plan(copied, exits, shape)
    needed: set = set()
    segments = []
    for index in reversed(range(len(plans))):
        plan = plans[index]
        made = {k: name for k, name in plan.made.items() if name in needed}
        graph = SegmentGraph(copied, exits, index, plan.arguments, list(made),
                             group).eval()
        examples = dict(zip(plan.sources.values(), plan.arguments.values()))
        segment = write(graph, examples, [plan.logits, *made.values()], folder,
                        f'segment{index}')
        segments.append(segment)
        needed.update(segment.inputs)
    segments.reverse()
    used = {name for s in segments for name in (*s.inputs, *s.outputs)}
    return Exported(segments, {k: v for k, v in tensors.items() if k in used})


def _check_graphs(trunk: SegmentedTrunk) -> None:
    """Refuse networks whose segments are no graphs."""
    if trunk.frame_by_frame:
        raise ValueError(
            f'{type(trunk).__name__} looks at one frame of a video after the '
            f'other, and exported graphs at all frames: it runs in PyTorch '
            f'only')
    if trunk.decides_inside:
        raise ValueError(
            f'{type(trunk).__name__} chooses by values inside of its segments '
            f'what it computes, which a graph cannot: it runs in PyTorch only')


def _group(trunk: SegmentedTrunk, shape: Sequence[int]) -> Optional[int]:
    """How many images are one sample, None where they are no videos;
    ValueError, if they do not fit."""
    group = shape[0] if len(shape) == 4 else None
    if (group or 1) % trunk.frames_per_clip:
        raise ValueError(
            f'the network takes clips of {trunk.frames_per_clip} frames, and '
            f'the test pipeline makes {group or 1} images of a sample: set '
            f'num_clips={trunk.frames_per_clip} of SampleFrames')
    return group


@torch.no_grad()
def _plan(trunk: SegmentedTrunk, exits: ExitClassifiers,
          shape: Sequence[int]) -> Any:
    """Run the segments once to see what each takes and makes."""
    group = _group(trunk, shape)
    lead = ['batch', *shape[:-3]]
    images, _ = as_images(torch.zeros(EXAMPLE_BATCH, *shape))
    state = trunk.initial_state(images)
    first, *_ = kind = trunk.state_type._fields
    values: Dict[str, Optional[Tensor]] = dict(state._asdict(), knowledge=None)
    names = {first: 'images'}
    tensors: Dict[str, List[Any]] = dict(images=['batch', *shape])
    plans = []
    for index in range(trunk.num_segments):
        arguments = {k: v for k, v in values.items() if v is not None}
        sources = {k: names[k] for k in arguments}
        carried, logits = run_step(
            trunk, exits, index,
            LoopState(
                trunk.state_type(*(values[name] for name in kind)),
                values['knowledge']))
        if index:
            arguments[first] = handed_on(trunk, arguments[first])
        if group is not None:
            arguments = {k: as_samples(v, group) for k, v in arguments.items()}
        after = dict(carried.state._asdict(), knowledge=carried.knowledge)
        made = {}
        tensors[f'logits{index}'] = ['batch', *logits.shape[1:]]
        for key, value in after.items():
            # Those of a sample of several images are averages.
            if value is logits and group is None:
                names[key] = f'logits{index}'
            elif value is not None and value is not values[key]:
                names[key] = made[key] = f'{key}{index}'
                if key == first:
                    value = handed_on(trunk, value)
                tensors[made[key]] = [*lead, *value.shape[1:]]
        values = after
        plans.append(_Plan(arguments, sources, made, f'logits{index}'))
    return plans, tensors


@torch.no_grad()
def verify_segments(trunk: SegmentedTrunk,
                    exits: ExitClassifiers,
                    exported: Exported,
                    folder: str,
                    file_format: str = 'onnx') -> float:
    """Compare the graphs in their runtime with the network in PyTorch.

    Returns:
        float: The largest difference of a logit over batches of 1 and 3,
        divided by the largest logit where that exceeds 1.

    Raises:
        RuntimeError: If it is larger than MAX_DIFFERENCE.
    """
    sessions = [
        open_session(FORMATS[file_format], os.path.join(folder, segment.file),
                     segment.outputs, None, 'fp32')
        for segment in exported.segments
    ]
    shape = exported.tensors['images'][1:]
    generator = torch.Generator().manual_seed(0)
    worst = 0.
    for batch in (1, 3):
        images = torch.randn(batch, *shape, generator=generator)
        expected = run_all_exits(trunk, exits, *as_images(images))
        tensors = dict(images=images.numpy())
        for segment, session, logits in zip(exported.segments, sessions,
                                            expected):
            found = session.run(
                {name: tensors[name]
                 for name in segment.inputs})
            tensors.update(zip(segment.outputs, found))
            difference = np.abs(found[0] - logits.numpy()).max()
            difference /= max(1, logits.abs().max().item())
            # NaN compares as neither.
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf)))
    if not worst <= MAX_DIFFERENCE:
        raise RuntimeError(
            f'the exported graphs give other logits than PyTorch: they differ '
            f'by up to {worst:.3g}, allowed are {MAX_DIFFERENCE:g}')
    return worst
