# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A plain fine-tuned network of torchvision, on the images of a fit.

The usual recipe: 224 pixels, random crops and flips, SGD with momentum 0.9
and a learning rate of 0.01 in batches of 32 that falls along a cosine, which
ends with the time. It trains on the held-out images, too, for it has no
thresholds to choose. Exported, it is timed in turn with the fit's network.
"""
import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Callable, List, Tuple

import numpy as np
import onnxruntime
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision import transforms

from mmdynperceiver.deploy import Runner

NORMALISE = [
    transforms.ToTensor(),
    transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
]
TRAIN = transforms.Compose([
    transforms.RandomResizedCrop(224),
    transforms.RandomHorizontalFlip(), *NORMALISE
])
TEST = transforms.Compose(
    [transforms.Resize(256),
     transforms.CenterCrop(224), *NORMALISE])
TIMED = 100


class Listed(torch.utils.data.Dataset):
    """The images of some lists of a fit."""

    def __init__(self, folder: Path, *splits: str, transform=TEST) -> None:
        lines = [
            line for split in splits
            for line in (folder /
                         f'data/{split}.txt').read_text().splitlines()
        ]
        self.rows: List[Tuple[str, int]] = [
            (path, int(label))
            for path, _, label in (line.rpartition(' ') for line in lines)
        ]
        self.transform = transform

    def __len__(self) -> int:
        """How many."""
        return len(self.rows)

    def __getitem__(self, index: int):
        """One image and its label."""
        path, label = self.rows[index]
        return self.transform(Image.open(path).convert('RGB')), label


def train(net: nn.Module, data: Listed, minutes: float) -> int:
    """Train for so many minutes of CPU time; the number of steps."""
    loader = torch.utils.data.DataLoader(
        data, 32, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(
        net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    start, steps = time.process_time(), 0
    net.train()
    while True:
        for images, labels in loader:
            done = (time.process_time() - start) / 60 / minutes
            if done >= 1:
                return steps
            rate = 0.01 * (1 + math.cos(math.pi * done)) / 2
            for group in optimizer.param_groups:
                group['lr'] = rate
            loss = nn.functional.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1


@torch.no_grad()
def accuracy(net: nn.Module, data: Listed) -> float:
    """On all of the data."""
    net.eval()
    right = sum(
        int((net(images).argmax(1) == labels).sum())
        for images, labels in torch.utils.data.DataLoader(data, 32))
    return right / len(data)


def milliseconds(run: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def time_both(net: nn.Module, folder: Path, data: Listed) -> dict:
    """One image at a time, one thread each, the better of two runs."""
    path = folder / 'plain.onnx'
    torch.onnx.export(net, torch.rand(1, 3, 224, 224), path, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    runner = Runner.load(folder / 'exported', threads=1)
    plain, early = [], []
    for index in range(0, len(data), max(1, len(data) // TIMED)):
        image = data[index][0].numpy()[None]
        own = runner.prepare(data.rows[index][0])[0][None]
        for run, times in ((lambda: session.run(None, {name: image}), plain),
                           (lambda: runner.predict(own), early)):
            times.append(min(milliseconds(run), milliseconds(run)))
    # Images leave at different exits: the mean of whole times counts, each
    # in units of the plain network's beside it.
    ratio = statistics.mean(np.asarray(early) / np.asarray(plain))
    return dict(plain_ms=statistics.median(plain), early_of_plain=float(ratio))


def main() -> None:
    """Train, test and time."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('fit', type=Path, help='folder of a fit')
    parser.add_argument('weights', help="file of torchvision's weights")
    parser.add_argument('--name', default='mobilenet_v2')
    parser.add_argument('--cpu-minutes', type=float, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    classes = (args.fit / 'data/classes.txt').read_text().splitlines()
    net = torchvision.models.get_model(args.name)
    net.load_state_dict(torch.load(args.weights, weights_only=True))
    net.classifier[1] = nn.Linear(net.classifier[1].in_features, len(classes))
    trained = args.fit / 'plain.pth'
    if not trained.exists():
        data = Listed(args.fit, 'train', 'val', transform=TRAIN)
        steps = train(net, data, args.cpu_minutes)
        about = dict(steps=steps, passes=32 * steps / len(data))
        torch.save(dict(state_dict=net.state_dict(), **about), trained)
    saved = torch.load(trained, weights_only=True)
    net.load_state_dict(saved.pop('state_dict'))
    print(json.dumps(saved), flush=True)
    test = Listed(args.fit, 'test')
    found = time_both(net.eval(), args.fit, test)
    print(json.dumps(found), flush=True)
    found = dict(accuracy=accuracy(net, test))
    print(json.dumps(found))


if __name__ == '__main__':
    main()
