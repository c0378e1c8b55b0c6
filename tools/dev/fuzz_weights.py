# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Files of weights: published ones and checkpoints."""
import io
import random
from typing import Any, Dict

import torch
from mmengine.config import Config

import mmdynperceiver.classification  # noqa: F401
from mmdynperceiver.core import DynPerceiver, load_official
from mmdynperceiver.core.official import _published_names
from mmdynperceiver.hosts.build import build_model
from mmdynperceiver.io.checkpoints import load_strict, read_weights
from mmdynperceiver.io.fingerprints import weights_fingerprint
from fuzz_base import NETWORK, Kind, attempt, check
from mutations import damage_bytes, damage_state

__all__ = ['Checkpoint', 'Published']


def saved(content: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class Weights(Kind):
    """State dicts: what is taken is whole, or is what was saved."""

    state: Dict[str, torch.Tensor]

    def prepare(self) -> None:
        """See :class:`Kind`."""
        torch.manual_seed(0)
        self.make()
        self.data = saved(self.content(self.state))
        self.right = self.read(self.write('right.pth', self.data))

    def make(self) -> None:
        """Set ``state``."""
        raise NotImplementedError

    def content(self, state: Dict[str, Any]) -> Any:
        """What stands in the file."""
        raise NotImplementedError

    def read(self, path: str) -> str:
        """Read a file; a fingerprint of the model that has its weights."""
        raise NotImplementedError

    def run(self, rng: random.Random) -> None:
        """See :class:`Kind`."""
        in_bytes = rng.random() < .5
        try:
            data = damage_bytes(rng, self.data) if in_bytes else saved(
                self.content(damage_state(rng, self.state)))
        except (RuntimeError, NotImplementedError):
            return  # not to be saved
        found = attempt(lambda: self.read(self.write('x.pth', data)))
        check(not in_bytes or found in (None, self.right),
              'other weights than those that were saved')


def fingerprint(model: torch.nn.Module) -> str:
    """A fingerprint of a model whose weights must be finite."""
    state = model.state_dict()
    for name, value in state.items():
        check(not value.is_floating_point() or bool(value.isfinite().all()),
              f'{name} is not finite')
    return weights_fingerprint(state)


class Published(Weights):
    """Files as the authors published them."""

    def make(self) -> None:
        """See :class:`Weights`."""
        self.state = {}
        # A published network has self-attention in each stage.
        net = DynPerceiver(
            num_classes=3,
            **{
                **NETWORK, 'depth_factor': (1 / 3, 1 / 3, 1 / 9, 1 / 3)
            })
        for name, value in net.state_dict().items():
            if name.endswith('_extra_state'):
                continue
            sources = _published_names(name, 'resnet')
            parts = value.chunk(len(sources)) if value.ndim else [value]
            self.state.update(zip(sources, (p.clone() for p in parts)))

    def content(self, state: Dict[str, Any]) -> Any:
        """See :class:`Weights`."""
        return dict(model=state)

    def read(self, path: str) -> str:
        """See :class:`Weights`."""
        return fingerprint(load_official(path))


class Checkpoint(Weights):
    """Checkpoints of our configs, as test, export and calibrate read them."""

    def make(self) -> None:
        """See :class:`Weights`."""
        self.model = build_model(
            Config(
                dict(
                    default_scope='mmpretrain',
                    model=dict(
                        type='DynPerceiverClassifier',
                        backbone=dict(type='DynPerceiverBackbone', **NETWORK),
                        head=dict(type='DynPerceiverHead', num_classes=3)))))
        self.state = {k: v.clone() for k, v in self.model.state_dict().items()}

    def content(self, state: Dict[str, Any]) -> Any:
        """See :class:`Weights`."""
        return dict(meta=dict(epoch=1), state_dict=state)

    def read(self, path: str) -> str:
        """See :class:`Weights`."""
        load_strict(self.model, read_weights(path), path)
        return fingerprint(self.model)
