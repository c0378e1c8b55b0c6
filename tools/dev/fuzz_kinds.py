# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The kinds of files that are damaged, and what reads each of them."""
import importlib.util
import io
import json
import os
import random
from typing import Any, Optional

import numpy as np
import torch
from mmengine.registry import DefaultScope
from PIL import Image

from mmdynperceiver.benchmark.latency import read_latencies
from mmdynperceiver.classification import CheckedImageFolder
from mmdynperceiver.core import DynPerceiver, ExitPolicy, OperatingPoint
from mmdynperceiver.datasets.hold_out import read_list
from mmdynperceiver.deploy import Runner
from mmdynperceiver.deploy.export import export_network
from mmdynperceiver.deploy.manifest import MANIFEST, _digest, file_sha256
from mmdynperceiver.deploy.preprocessing import Preprocessing
from mmdynperceiver.report import read_curves
from fuzz_base import CLASSES, NETWORK, Fault, Kind, as_json, attempt, check
from fuzz_weights import Checkpoint, Published
from mutations import damage_bytes, damage_json, damage_text

__all__ = ['KINDS', 'Fault']

SIZE = 32


class Point(Kind):
    """Operating points and thresholds."""

    right = dict(
        thresholds=[.9, .8, .7],
        criterion='max_prob',
        temperature=[1., 1.5, 1., 2.],
        model=dict(num_exits=4, num_classes=3))

    def run(self, rng: random.Random) -> None:
        """See :class:`Kind`."""
        content = damage_json(rng, self.right)
        data = as_json(content)
        path = self.write(
            'p.json', data if rng.random() < .7 else damage_bytes(rng, data))
        point = attempt(lambda: OperatingPoint.load(path, 4))
        if point is None:
            return
        policy = attempt(lambda: ExitPolicy.from_operating_point(point))
        if policy is not None and policy.thresholds is not None:
            check(
                len(policy.thresholds) == 3 and all(
                    isinstance(t, float) and t >= 0
                    for t in policy.thresholds),
                f'thresholds {policy.thresholds}')


class LatencyTable(Kind):
    """What tools/benchmark.py writes."""

    model = dict(num_exits=4, num_classes=3)
    right = dict(
        exits=[dict(median_ms=float(k)) for k in range(1, 5)],
        model=model,
        batch_size=1)

    def run(self, rng: random.Random) -> None:
        """See :class:`Kind`."""
        path = self.write('t.json', damage_json(rng, self.right))
        found = attempt(lambda: read_latencies(path, self.model))
        check(
            found is None
            or len(found) == 4 and all(0 < x < np.inf for x in found),
            f'latencies {found}')


class Exported(Kind):
    """Exported folders; a change that checksums show must be refused."""

    sealed = False

    def prepare(self) -> None:
        """See :class:`Kind`."""
        torch.manual_seed(0)
        net = DynPerceiver(num_classes=3, **NETWORK).eval()
        self.out = os.path.join(self.folder, 'out')
        export_network(
            *net.exit_parts(), self.out,
            dict(size=[SIZE, SIZE], mean=[0] * 3, std=[1] * 3, steps=[]),
            net.policy, CLASSES)
        self.files = {
            name: open(os.path.join(self.out, name), 'rb').read()
            for name in sorted(os.listdir(self.out))
        }
        self.images = np.zeros((2, 3, SIZE, SIZE), np.float32)

    def run(self, rng: random.Random) -> None:
        """See :class:`Kind`."""
        runtime = rng.choice(('onnxruntime', 'openvino'))
        name = rng.choice((MANIFEST, rng.choice(sorted(self.files))))
        content = json.loads(self.files[MANIFEST])
        data = self.files[name]
        if name == MANIFEST and rng.random() < .8:
            content.pop('manifest_sha256')
            content = damage_json(rng, content)
            data = as_json(self.seal(content))
        else:
            data = damage_bytes(rng, data)
        self.write(os.path.join('out', name), data)
        if self.sealed and name != MANIFEST:
            content.pop('manifest_sha256')
            content['sha256'][name] = file_sha256(os.path.join(self.out, name))
            self.write(os.path.join('out', MANIFEST), self.seal(content))
        try:
            self.use(runtime, self.same(name, data))
        finally:
            for each in (name, MANIFEST):
                self.write(os.path.join('out', each), self.files[each])

    def same(self, name: str, data: bytes) -> bool:
        """Whether a file still says the same; JSON may be laid out anew."""
        if name != MANIFEST or data == self.files[name]:
            return data == self.files[name]
        try:
            return json.loads(data) == json.loads(self.files[name])
        except (ValueError, RecursionError):
            return False

    def seal(self, content: Any) -> Any:
        """Make the checksum fit, where this kind does."""
        if self.sealed and isinstance(content, dict):
            content['manifest_sha256'] = _digest(content)
        return content

    def use(self, runtime: str, same: bool) -> None:
        """Load the folder and run a batch."""

        def load_and_run() -> Any:
            return Runner.load(
                self.out, runtime, threads=1).predict(self.images)

        out = attempt(load_and_run)
        if out is None:
            return
        check(self.sealed or same, 'a changed folder was taken')
        check(
            bool(np.isfinite(out.logits).all()) and len(out.logits) == 2,
            'the logits are not those of two images')


class Sealed(Exported):
    """Exported folders of someone who can compute checksums."""

    sealed = True


class Curves(Kind):
    """Tables of curves."""

    right = 'series,data,macs,accuracy\n' + ''.join(
        f'search,test,{k}000000,0.{k}\n' for k in range(1, 9))

    def run(self, rng: random.Random) -> None:
        """See :class:`Kind`."""
        path = self.write('c.csv', damage_text(rng, self.right))
        curves = attempt(lambda: read_curves(path))
        for curve in curves or ():
            values = [*curve.macs, *curve.accuracy]
            check(all(map(np.isfinite, values)), f'a point of {values}')


class ImageList(Kind):
    """Lists of images and labels, and lists to leave out."""

    def prepare(self) -> None:
        """See :class:`Kind`."""
        lines = []
        for label, name in enumerate(CLASSES):
            os.makedirs(os.path.join(self.folder, 'train', name))
            for k in range(3):
                lines.append(f'{name}/{k}.png {label}')
                Image.new('RGB', (8, 8)).save(
                    os.path.join(self.folder, 'train', name, f'{k}.png'))
        self.right = '\n'.join(lines) + '\n'

    def run(self, rng: random.Random) -> None:
        """See :class:`Kind`."""
        path = self.write('l.txt', damage_text(rng, self.right))
        exclude = ''
        if rng.random() < .3:
            exclude = self.write('x.txt', damage_text(rng,
                                                      'train/ant/0.png\n'))
            attempt(lambda: read_list(exclude))

        def build() -> Any:
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                return CheckedImageFolder(
                    data_root=self.folder,
                    ann_file=os.path.basename(path),
                    data_prefix='train',
                    exclude=exclude,
                    pipeline=[])

        data = attempt(build)
        if data is not None:
            labels = [
                data.get_data_info(k)['gt_label'] for k in range(len(data))
            ]
            check(
                all(0 <= int(label) < 1000 for label in labels),
                f'labels {labels}')


class ImageFile(Kind):
    """Images, in deployment and in training."""

    def prepare(self) -> None:
        """See :class:`Kind`."""
        pixels = np.random.default_rng(0).integers(
            0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
        self.data = {}
        for ending in ('png', 'jpg', 'bmp', 'tif', 'webp', 'gif', 'ppm'):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(
                buffer,
                dict(jpg='jpeg', tif='tiff').get(ending, ending))
            self.data[ending] = buffer.getvalue()
        os.makedirs(os.path.join(self.folder, 'c'))

    def run(self, rng: random.Random) -> None:
        """See :class:`Kind`."""
        ending = rng.choice(sorted(self.data))
        data = damage_bytes(rng, self.data[ending])
        path = self.write(os.path.join('c', f'a.{ending}'), data)
        try:
            for decoder in ('pillow', 'cv2'):
                read = Preprocessing([SIZE, SIZE], [0] * 3, [1] * 3, decoder)
                found = attempt(lambda: read(path))
                check(found is None or found.shape == (3, SIZE, SIZE),
                      'an image of another shape')
            self.train(rng.choice(('raise', 'skip')))
        finally:
            os.unlink(path)

    def train(self, on_broken: str) -> Optional[Any]:
        """Read it as training and testing do."""

        def first() -> Any:
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                data = CheckedImageFolder(
                    data_root=self.folder,
                    on_broken=on_broken,
                    test_mode=True,
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='PackInputs')
                    ])
                return data[0]

        return attempt(first)


class Coco(Kind):
    """Annotations of boxes."""

    def prepare(self) -> None:
        """See :class:`Kind`."""
        self.usable = importlib.util.find_spec('mmcv._ext') is not None
        self.right = dict(
            images=[
                dict(id=k, file_name=f'{k}.png', width=64, height=48)
                for k in range(3)
            ],
            categories=[
                dict(id=k, name=name) for k, name in enumerate(CLASSES, 1)
            ],
            annotations=[
                dict(
                    id=k,
                    image_id=k % 3,
                    category_id=1 + k % 3,
                    bbox=[2 * k, 3, 10, 12],
                    area=120,
                    iscrowd=0) for k in range(6)
            ])

    def run(self, rng: random.Random) -> None:
        """See :class:`Kind`."""
        if not self.usable:
            return
        from mmdynperceiver.detection import CheckedCocoDataset
        path = self.write('a.json', damage_json(rng, self.right))

        def build() -> Any:
            with DefaultScope.overwrite_default_scope('mmdet'):
                data = CheckedCocoDataset(
                    ann_file=path,
                    data_prefix=dict(img=self.folder),
                    metainfo=dict(classes=CLASSES),
                    on_bad_box=rng.choice(('raise', 'skip')),
                    filter_cfg=dict(filter_empty_gt=True),
                    pipeline=[])
                return [data.get_data_info(k) for k in range(len(data))]

        images = attempt(build)
        for image in images or ():
            for each in image['instances']:
                x0, y0, x1, y1 = each['bbox']
                check(0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 48,
                      f'a box {each["bbox"]}')
                check(0 <= each['bbox_label'] < 3,
                      f'a label {each["bbox_label"]}')


class VideoList(Kind):
    """Lists of videos and labels."""

    right = ''.join(f'{k}.mp4 {k % 3}\n' for k in range(6))

    def run(self, rng: random.Random) -> None:
        """See :class:`Kind`."""
        from mmdynperceiver.recognition import CheckedVideoDataset
        path = self.write('v.txt', damage_text(rng, self.right))

        def build() -> Any:
            with DefaultScope.overwrite_default_scope('mmaction'):
                data = CheckedVideoDataset(
                    ann_file=path,
                    data_prefix=dict(video=self.folder),
                    pipeline=[])
                return [data.get_data_info(k) for k in range(len(data))]

        videos = attempt(build)
        for video in videos or ():
            check(0 <= video['label'] < 10**6, f'a label {video["label"]}')


KINDS = {
    'published': Published,
    'checkpoint': Checkpoint,
    'point': Point,
    'latency-table': LatencyTable,
    'exported': Exported,
    'sealed': Sealed,
    'curves': Curves,
    'image-list': ImageList,
    'image': ImageFile,
    'coco': Coco,
    'video-list': VideoList
}
