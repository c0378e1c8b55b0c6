# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Choose network, image size, batch and schedule, and say why."""
import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..calibration.goals import Goal, parse_amount
from ..core.operating_point import describe_model
from ..errors import InputError
from .measure import Speeds
from .options import FitOptions
from .weights import arch_of_weights, take_over

__all__ = ['Plan', 'choose_plan']

SIZES = (64, 96, 128, 160, 192, 224)
# What networks that were trained on ImageNet need to see anything.
LEAST_PRETRAINED = 96
# Of the last exit's cost, what a trained network spends on average.
EXPECTED_SHARE = 0.6
# Fewer passes over the data than this are worth a smaller image.
FEW_PASSES = 3.
MOST_PASSES = dict(pretrained=30., scratch=60.)
# A small network for a start without weights; the demo's.
SMALL = dict(block='basic', depths=(1, 1, 4, 4))
# Epochs of a run: what an interruption may cost, and how fine time is kept.
EPOCHS, EPOCH_SECONDS = (4, 40), 20.
# Of the time: what is kept for everything else while that is not measured
# yet, what is kept besides when it is, and what training gets in any case.
RESERVE, MARGIN, LEAST = 0.2, 0.05, 0.25


@dataclass
class Plan:
    """What was chosen.

    Args:
        backbone (dict): Config of the early-exit backbone.
        static (dict): Config of its static twin.
        image_size (int): Height and width.
        batch_size (int): Images of a step.
        lr (float): Largest learning rate.
        branch_lr (float): What the feature branch has of it.
        epochs (int): How many, of ``samples`` images each.
        samples (int): See there.
        minutes (float): Most that training may take.
        latencies (list[float]): Milliseconds up to each exit, exported.
        describes (dict): What ``describe_model`` says of the network.
        reasons (list): Rows of what, value and why.
    """

    backbone: Dict[str, Any] = field(default_factory=dict)
    static: Dict[str, Any] = field(default_factory=dict)
    image_size: int = 0
    batch_size: int = 0
    lr: float = 0.
    branch_lr: float = 1.
    epochs: int = 0
    samples: int = 0
    minutes: float = 0.
    latencies: List[float] = field(default_factory=list)
    describes: Dict[str, Any] = field(default_factory=dict)
    reasons: List[Tuple[str, str, str]] = field(default_factory=list)

    def say(self, what: str, value: Any, why: str, given: Any = None) -> None:
        """Note a choice, and its reason unless the user made it."""
        self.reasons.append(
            (what, str(value), why if given is None else 'as you said'))

    def as_dict(self) -> Dict[str, Any]:
        """For a file."""
        return asdict(self)


def choose_plan(options: FitOptions, counts: Mapping[str, int],
                num_classes: int, side: float, seconds: float) -> Plan:
    """Choose everything that the user has not said.

    Args:
        options (FitOptions): What the user has said.
        counts (Mapping[str, int]): Number of images of 'train', 'val' and
            'test'.
        num_classes (int): Number of classes.
        side (float): Median of the images' shorter edges, in pixels.
        seconds (float): Time for choosing, for training and for all that
            comes behind it.

    Raises:
        InputError: If an option does not fit the network, or no network
            meets the budget.
    """
    plan, num_train = Plan(minutes=seconds * (1 - RESERVE) /
                           60), counts['train']
    pretrained = _choose_network(plan, options)
    _choose_batch(plan, options, num_train, pretrained)
    speeds = Speeds(plan, num_classes, options.threads)
    _choose_size(plan, options, speeds, num_train, side, pretrained)
    # Exported now, so that hours later nothing stands in the way.
    plan.latencies = speeds.milliseconds(plan.image_size)
    _keep_time(plan, speeds, counts, seconds)
    _choose_length(plan, options, speeds, num_train, pretrained)
    plan.describes = describe_model(*speeds.model.exit_parts())
    return plan


def _choose_network(plan: Plan, options: FitOptions) -> bool:
    """Choose the feature branch and the latents; whether it is pretrained."""
    weights = options.backbone_weights
    if options.pretrained is not None:
        _take_network(plan, options, options.pretrained)
        return True
    arch: Any = options.arch or dict(SMALL)
    # Its operations are few, and at first it leaves the features as they are.
    shape: Dict[str, Any] = dict(branch='latency-first')
    both: Dict[str, Any] = {}
    latents, why = 16, 'those of the latency-first branch'
    if weights:
        arch = arch_of_weights(weights)
        both = dict(backbone_weights=os.path.abspath(weights))
        plan.say('network', arch, f'what {weights} are the weights of')
    elif options.arch:
        plan.say('network', options.arch, '', options.arch)
    else:
        shape = dict(depth_factor=(0, 0, 0, 2 / 3))
        both = dict(width=0.25)
        latents, why = 8, 'few, since each costs time on small images'
        plan.say(
            'network', 'resnet22, width 0.25', 'small enough to learn '
            'from nothing; --backbone-weights FILE starts better')
    if options.width is not None:
        both = dict(width=options.width)
    plan.static = dict(type='ConvBackbone', arch=arch, **both)
    plan.backbone = dict(
        type='DynPerceiverBackbone',
        arch=arch,
        num_latents=options.num_latents or latents,
        **shape,
        **both)
    plan.say('latents', plan.backbone['num_latents'], why, options.num_latents)
    return bool(weights)


def _take_network(plan: Plan, options: FitOptions, source: str) -> None:
    """Take a saved network; its static twin starts from its branch."""
    path = os.path.abspath(os.path.join(options.out, 'pretrained.pth'))
    settings, plan.image_size = take_over(source, path)
    plan.backbone = dict(type='DynPerceiverBackbone', **settings)
    plan.static = dict(
        type='ConvBackbone',
        **{
            name: settings[name]
            for name in ('arch', 'width', 'init_cfg') if name in settings
        })
    plan.say('network', source, 'what it was saved as')


def _choose_batch(plan: Plan, options: FitOptions, num_train: int,
                  pretrained: bool) -> None:
    """Choose the batch and the learning rate."""
    fits = 2**int(math.log2(max(8, num_train / 20)))
    plan.batch_size = options.batch_size or min(32, fits)
    plan.say('batch', plan.batch_size,
             'at least 20 steps for a pass over the images',
             options.batch_size)
    if options.lr is None:
        plan.lr = 2e-3 * math.sqrt(plan.batch_size / 32)
    else:
        plan.lr = options.lr
    plan.branch_lr = 0.3 if pretrained else 1.
    why = f'{plan.branch_lr:g} of it for what is pretrained' if pretrained \
        else 'for this batch'
    plan.say('learning rate', f'{plan.lr:.2g}', why, options.lr)


def _choose_size(plan: Plan, options: FitOptions, speeds: Speeds,
                 num_train: int, side: float, pretrained: bool) -> None:
    """Choose the size of the images, by data, budget and time."""
    plan.image_size = options.image_size or plan.image_size
    if plan.image_size:
        _check_budget(options, speeds, [plan.image_size])
        plan.say('image size', plan.image_size, 'what the network was saved '
                 'with', options.image_size)
        return
    natural = next((s for s in SIZES if s >= side), SIZES[-1])
    why = f'the images have {side:g} pixels'
    least = LEAST_PRETRAINED if pretrained else SIZES[0]
    if natural < least:
        natural, why = least, f'{why}, and {least} are the least that serve'
    sizes = [size for size in SIZES if size <= natural]
    within = _check_budget(options, speeds, sizes)
    if within < natural:
        natural, why = within, 'larger ones would cost more than the budget'
    while natural > least and _passes(plan, speeds, natural,
                                      num_train) < FEW_PASSES:
        natural = sizes[sizes.index(natural) - 1]
        why = f'larger ones are seen less than {FEW_PASSES:g} times in time'
    plan.image_size = natural
    plan.say('image size', natural, why)


def _check_budget(options: FitOptions, speeds: Speeds,
                  sizes: Sequence[int]) -> int:
    """The largest size within the budget, if there is one.

    Raises:
        InputError: If even the smallest one costs more; it names the nearest.
    """
    name = 'budget_ms' if options.budget_ms else 'budget_macs'
    text: Optional[str] = getattr(options, name)
    if text is None:
        return sizes[-1]
    unit = 'ms' if options.budget_ms else 'MACs'
    for size in reversed(sizes):
        costs = speeds.milliseconds(size) if unit == 'ms' else \
            speeds.macs(size)
        option = f'--{name.replace("_", "-")}'
        budget = parse_amount(text, costs[-1], option)
        if budget >= EXPECTED_SHARE * costs[-1] or size == sizes[0]:
            break
    if budget < costs[0]:
        show = Goal(costs, unit).show
        raise InputError(
            f'no network here meets {option} {text}: the nearest, with images '
            f'of {size} pixels, takes {show(costs[0])} to its first exit and '
            f'{show(costs[-1])} to its last one')
    return size


def _passes(plan: Plan, speeds: Speeds, size: int, num_train: int) -> float:
    """How often each image is seen in time."""
    return 60 * plan.minutes * speeds.images_per_second(size) / num_train


def _keep_time(plan: Plan, speeds: Speeds, counts: Mapping[str, int],
               seconds: float) -> None:
    """Give training the time that choosing has not taken and that what
    follows will not take."""
    speeds.images_per_second(plan.image_size)
    behind = speeds.seconds_behind(plan.image_size, counts)
    left = (1 - MARGIN) * seconds - speeds.spent() - behind
    plan.minutes = max(left, LEAST * seconds) / 60
    plan.say('training', f'{plan.minutes:.1f} minutes',
             f'{behind:.0f} s are kept for what follows')


def _choose_length(plan: Plan, options: FitOptions, speeds: Speeds,
                   num_train: int, pretrained: bool) -> None:
    """Choose how many images are seen, and how long an epoch is."""
    most = options.passes or MOST_PASSES[
        'pretrained' if pretrained else 'scratch']
    in_time = _passes(plan, speeds, plan.image_size, num_train)
    passes = min(most, in_time)
    speed = speeds.images_per_second(plan.image_size)
    total = max(passes * num_train, plan.batch_size)
    low, high = EPOCHS
    plan.epochs = max(low, min(high, round(total / speed / EPOCH_SECONDS)))
    batches = math.ceil(total / plan.epochs / plan.batch_size)
    plan.samples = batches * plan.batch_size
    why = f'{speed:.0f} images a second in {plan.minutes:.1f} minutes'
    if passes == most and options.passes is None:
        why = 'more passes bring little'
    elif in_time < min(1., most):
        more = (1 - in_time) * num_train / speed / (1 - MARGIN) / 60
        why += f'; --minutes {math.ceil(options.minutes + more)} would show ' \
               f'all images once'
    plan.say('passes', f'{passes:.1f}', why,
             options.passes if passes == options.passes else None)
