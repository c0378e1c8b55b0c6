# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The kinds of files that are damaged, and what reads each of them.

A kind is a function of a folder for its files. It makes what all cases have
in common, and returns what runs a case with a source of random numbers.
"""
import io
import json
import os
import random
from typing import Any, Callable, Dict

import numpy as np
import torch
from fuzz_data import coco, image, image_list, video_list
from mmengine.config import Config

import mmdynperceiver.classification  # noqa: F401
from mmdynperceiver.benchmark.latency import read_latencies
from mmdynperceiver.core import (DynPerceiver, ExitPolicy, OperatingPoint,
                                 load_official)
from mmdynperceiver.core.official import _published_names
from mmdynperceiver.deploy import Runner
from mmdynperceiver.deploy.export import export_network
from mmdynperceiver.deploy.manifest import MANIFEST
from mmdynperceiver.hosts.build import build_model
from mmdynperceiver.io.checkpoints import load_strict, read_weights
from mmdynperceiver.io.checksums import content_sha256, file_sha256
from mmdynperceiver.io.fingerprints import weights_fingerprint
from mmdynperceiver.report import read_curves
from fuzz_base import CLASSES, Fault, Files, as_json, attempt, check
from mutations import damage_bytes, damage_json, damage_state, damage_text

__all__ = ['KINDS', 'Fault', 'Files']

SIZE = 32
NETWORK: Dict[str, Any] = dict(
    arch='resnet18',
    width=0.125,
    num_latents=8,
    depth_factor=(0, 0, 1 / 9, 1 / 3))
MODEL = dict(num_exits=4, num_classes=3)


def saved(content: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def fingerprint(model: torch.nn.Module) -> str:
    """A fingerprint of a model whose weights must be finite."""
    state = model.state_dict()
    for name, value in state.items():
        check(not value.is_floating_point() or value.isfinite().all(),
              f'{name} is not finite')
    return weights_fingerprint(state)


def weights(files: Files, state: Dict[str, Any], content: Callable[[Any], Any],
            read: Callable[[str], str]) -> Any:
    """State dicts: what is taken is whole, or is what was saved."""
    whole = saved(content(state))
    right = read(files.write('right.pth', whole))

    def run(rng: random.Random) -> None:
        in_bytes = rng.random() < .5
        try:
            data = damage_bytes(rng, whole) if in_bytes else saved(
                content(damage_state(rng, state)))
        except (RuntimeError, NotImplementedError):
            return  # not to be saved
        found = attempt(read, files.write('x.pth', data))
        check(not in_bytes or found in (None, right),
              'other weights than those that were saved')

    return run


def published(files: Files) -> Any:
    """Files as the authors published them."""
    torch.manual_seed(0)
    # A published network has self-attention in each stage.
    network = {**NETWORK, 'depth_factor': (1 / 3, 1 / 3, 1 / 9, 1 / 3)}
    state: Dict[str, Any] = {}
    for name, value in DynPerceiver(
            num_classes=3, **network).state_dict().items():
        if not name.endswith('_extra_state'):
            sources = _published_names(name, 'resnet')
            parts = value.chunk(len(sources)) if value.ndim else [value]
            state.update(zip(sources, (part.clone() for part in parts)))
    return weights(files, state, lambda state: dict(model=state),
                   lambda path: fingerprint(load_official(path)))


def checkpoint(files: Files) -> Any:
    """Checkpoints of our configs, as test, export and calibrate read them."""
    torch.manual_seed(0)
    model = build_model(
        Config(
            dict(
                default_scope='mmpretrain',
                model=dict(
                    type='DynPerceiverClassifier',
                    backbone=dict(type='DynPerceiverBackbone', **NETWORK),
                    head=dict(type='DynPerceiverHead', num_classes=3)))))

    def read(path: str) -> str:
        load_strict(model, read_weights(path), path)
        return fingerprint(model)

    state = {name: value.clone() for name, value in model.state_dict().items()}
    return weights(files, state,
                   lambda state: dict(meta=dict(epoch=1), state_dict=state),
                   read)


def point(files: Files) -> Any:
    """Operating points and thresholds."""
    right = dict(
        thresholds=[.9, .8, .7],
        criterion='max_prob',
        temperature=[1., 1.5, 1., 2.],
        model=MODEL)

    def run(rng: random.Random) -> None:
        data = as_json(damage_json(rng, right))
        path = files.write(
            'p.json', data if rng.random() < .7 else damage_bytes(rng, data))
        found = attempt(OperatingPoint.load, path, 4)
        policy = found and attempt(ExitPolicy.from_operating_point, found)
        if policy is not None and policy.thresholds is not None:
            given = policy.thresholds
            check(
                len(given) == 3
                and all(isinstance(t, float) and t >= 0 for t in given),
                f'thresholds {given}')

    return run


def latency_table(files: Files) -> Any:
    """What tools/benchmark.py writes."""
    right = dict(
        exits=[dict(median_ms=float(k)) for k in range(1, 5)],
        model=MODEL,
        batch_size=1)

    def run(rng: random.Random) -> None:
        path = files.write('t.json', damage_json(rng, right))
        found = attempt(read_latencies, path, MODEL)
        check(
            found is None
            or len(found) == 4 and all(0 < x < np.inf for x in found),
            f'latencies {found}')

    return run


def is_same(name: str, data: bytes, whole: bytes) -> bool:
    """Whether a file still says the same; JSON may be laid out anew."""
    try:
        return data == whole or name == MANIFEST and json.loads(
            data) == json.loads(whole)
    except (ValueError, RecursionError):
        return False


def exported(files: Files, sealed: bool = False) -> Any:
    """Exported folders; a change that checksums show must be refused."""
    torch.manual_seed(0)
    net = DynPerceiver(num_classes=3, **NETWORK).eval()
    out = files.path('out')
    export_network(*net.exit_parts(), out,
                   dict(size=[SIZE, SIZE], mean=[0] * 3, std=[1] * 3,
                        steps=[]), net.policy, CLASSES)  # yapf: disable
    whole = {}
    for each in sorted(os.listdir(out)):
        with open(os.path.join(out, each), 'rb') as file:
            whole[each] = file.read()
    images = np.zeros((2, 3, SIZE, SIZE), np.float32)

    def write(name: str, content: Any) -> str:
        """Write a file; the checksum of a sealed manifest fits."""
        if sealed and isinstance(content, dict):
            content['manifest_sha256'] = content_sha256(content)
        return files.write(os.path.join('out', name), content)

    def load_and_run(runtime: str) -> Any:
        return Runner.load(out, runtime, threads=1).predict(images)

    def run(rng: random.Random) -> None:
        runtime = rng.choice(('onnxruntime', 'openvino'))
        name = rng.choice((MANIFEST, rng.choice(sorted(whole))))
        content = json.loads(whole[MANIFEST])
        del content['manifest_sha256']
        if name == MANIFEST and rng.random() < .8:
            path = write(name, damage_json(rng, content))
        else:
            path = write(name, damage_bytes(rng, whole[name]))
        if sealed and name != MANIFEST:
            content['sha256'][name] = file_sha256(path)
            write(MANIFEST, content)
        with open(path, 'rb') as file:
            same = is_same(name, file.read(), whole[name])
        try:
            found = attempt(load_and_run, runtime)
        finally:
            for each in (name, MANIFEST):
                write(each, whole[each])
        check(found is None or sealed or same, 'a changed folder was taken')
        check(
            found is None
            or np.isfinite(found.logits).all() and len(found.logits) == 2,
            'the logits are not those of two images')

    return run


def curves(files: Files) -> Any:
    """Tables of curves."""
    right = 'series,data,macs,accuracy\n' + ''.join(
        f'search,test,{k}000000,0.{k}\n' for k in range(1, 9))

    def run(rng: random.Random) -> None:
        path = files.write('c.csv', damage_text(rng, right))
        for curve in attempt(read_curves, path) or ():
            values = [*curve.macs, *curve.accuracy]
            check(all(map(np.isfinite, values)), f'a point of {values}')

    return run


KINDS: Dict[str, Callable[[Files], Any]] = {
    'published': published,
    'checkpoint': checkpoint,
    'point': point,
    'latency-table': latency_table,
    'exported': exported,
    # Of someone who can compute checksums.
    'sealed': lambda files: exported(files, sealed=True),
    'curves': curves,
    'image-list': image_list,
    'image': image,
    'coco': coco,
    'video-list': video_list
}
