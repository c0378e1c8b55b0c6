# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Parts of a check, each within its time, and gone on with later."""
import json
import os
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional

import torch
from torch import Tensor, nn

from ...core import DynPerceiver
from ...core.accelerate.bucket_graphs import Capture, CudaCapture
from ...io.atomic import write_json

__all__ = ['NotRun', 'Part', 'Rerun', 'Settings', 'passed', 'row', 'run_parts']

SHARES = (0.5, 0.25, 0.1, 0.15)


class NotRun(Exception):
    """A part cannot run here; says why."""


class Rerun:
    """In place of CUDA graphs on other devices: does the work again."""

    def __init__(self, device: torch.device) -> None:
        self.count = torch.zeros(1)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """The work itself."""
        work()
        return work

    def begin(self) -> None:
        """Nothing is under way."""

    def send(self, count: Tensor) -> None:
        """Keep the number."""
        self.count = count.clone()

    def receive(self) -> int:
        """The number."""
        return int(self.count)


@dataclass
class Settings:
    """What to check, and until when.

    Args:
        device (torch.device): Where.
        quick (bool): Small networks and few runs.
        deadline (float): Of ``time.monotonic()``.
        references (str, optional): Folder of the published implementation's
            reference outputs (``tests`` of a checkout).
    """

    device: torch.device
    quick: bool
    deadline: float
    references: Optional[str] = None

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU of CUDA."""
        return self.device.type == 'cuda'

    @property
    def size(self) -> int:
        """Height and width of the images."""
        return 32 if self.quick else 224

    @property
    def make_capture(self) -> Callable[[torch.device], Capture]:
        """What captures."""
        return CudaCapture if self.cuda else Rerun

    def networks(self) -> List[str]:
        """Names of the networks to check."""
        return ['resnet18'] if self.quick else \
            ['regnety-800mf', 'mobilenetv3-large']

    def build(self, arch: str) -> DynPerceiver:
        """One of them, with random weights."""
        if self.quick:
            net = DynPerceiver(
                arch,
                width=.25,
                num_latents=8,
                num_classes=10,
                depth_factor=(0, 0, 1 / 9, 1 / 3))
        else:
            net = DynPerceiver(
                arch, width=.75 if arch.startswith('mobilenet') else 1.)
        return randomised(net).to(self.device).eval()

    def images(self, number: int, seed: int = 0) -> Tensor:
        """Random normalised images, the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(
            number, 3, self.size, self.size, generator=generator)
        return images.to(self.device)


@torch.no_grad()
def randomised(net: DynPerceiver) -> DynPerceiver:
    """Give a network weights that keep the size of what they multiply, so
    that roundings do not grow from layer to layer."""
    generator = torch.Generator().manual_seed(0)

    def draw(tensor: Tensor, mean: float, std: float) -> None:
        tensor.copy_(
            mean + std *
            torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))

    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if name.endswith('running_var'):
            tensor.fill_(1.)
        elif name.endswith('running_mean') or name.endswith('bias'):
            draw(tensor, 0., 0.1)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            draw(tensor, 1., 0.1)
        elif tensor.is_floating_point():
            draw(tensor, 0., tensor[0].numel()**-0.5)
    return net


@dataclass
class Part:
    """Something to check.

    Args:
        name (str): Its name.
        run (Callable): Takes the settings and returns rows: 'what', 'value'
            and 'limit' (None of a mere measurement), and 'target' for what
            may be missed. Raises :class:`NotRun`.
        seconds (float): What it may take on a GPU.
    """

    name: str
    run: Callable[[Settings], List[Dict[str, Any]]]
    seconds: float = 30
    options: Dict[str, Any] = field(default_factory=dict)


def row(what: str,
        value: float,
        limit: Optional[float] = None,
        target: bool = False,
        **more: Any) -> Dict[str, Any]:
    """A row of a result; what is above its limit has failed."""
    return dict(what=what, value=value, limit=limit, target=target, **more)


def passed(found: Mapping[str, Any]) -> bool:
    """Whether a row is within its limit; a NaN is not."""
    return found['limit'] is None or found['value'] <= found['limit']


def run_parts(parts: List[Part], settings: Settings, machine: Mapping[str,
                                                                      Any],
              out: str, say: Callable[[str], None]) -> Dict[str, Any]:
    """Run what is not in the file yet, and write it after each part.

    A part that fails is noted, and does not stop the others; it and what was
    left out for lack of time are run by the next call.

    Args:
        parts (list[Part]): In their order.
        settings (Settings): For all.
        machine (Mapping): What results depend on; those of another machine
            are not gone on with.
        out (str): The JSON file.
        say (Callable): Prints a line.

    Returns:
        dict: 'machine' and 'parts', by name 'state' ('done', 'failed', 'not
        run' or 'no time'), 'seconds', and 'rows' or 'reason'.
    """
    found: Dict[str, Any] = dict(machine=dict(machine), parts={})
    if os.path.exists(out):
        with open(out, encoding='utf-8') as file:
            before = json.load(file)
        if before.get('machine') == json.loads(json.dumps(found['machine'])):
            found = before
        else:
            say(f'{out} is of another machine or version: all is run again')
    for part in parts:
        if found['parts'].get(part.name, {}).get('state') == 'done':
            say(f'{part.name}: done before')
            continue
        found['parts'][part.name] = one = _run(part, settings)
        reason = f': {one["reason"]}' if 'reason' in one else ''
        say(f'{part.name}: {one["state"]}, {one["seconds"]:.1f} s{reason}')
        write_json(out, found)
    return found


def _run(part: Part, settings: Settings) -> Dict[str, Any]:
    """Run one part, if there is time."""
    start = time.monotonic()
    if settings.deadline - start < part.seconds:
        return dict(
            state='no time',
            seconds=0.,
            reason=f'it may take {part.seconds:.0f} s: run again')
    result: Dict[str, Any]
    try:
        result = dict(state='done', rows=part.run(settings, **part.options))
    except NotRun as error:
        result = dict(state='not run', reason=str(error))
    except Exception as error:
        result = dict(
            state='failed',
            reason=f'{type(error).__name__}: {error}'.split('\n')[0],
            traceback=traceback.format_exc())
    if settings.cuda:
        _free(settings.device)
    return dict(result, seconds=time.monotonic() - start)


def _free(device: torch.device) -> None:
    """Give back what a part took; what it broke shows here."""
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError:  # the next part says so, too
        pass


def parameters_are_finite(net: nn.Module) -> bool:
    """Whether all weights are numbers."""
    return all(bool(p.isfinite().all()) for p in net.parameters())
