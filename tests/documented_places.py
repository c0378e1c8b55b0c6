# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the reader of a page has at hand, small, made when a command asks."""
import contextlib
import http.client
import io
import re
import runpy
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import cv2
import documented_data as data
import numpy as np
import pytest
from documented_commands import ROOT
from documented_rules import DEMO_CONFIG, reduce_config
from tiny import run_tool

# The folder of a command's result is none that it reads.
WRITES = (r'projects\.digits$|(export|share)(\.py)? \S+ \S+$|'
          r'--(out|report|plot|picture|logits)$')
ROOTS = dict(imagenet='data/imagenet', coco='data/coco')
COUNTS = dict(train=120, val=40, test=40)
STOPPING = (signal.SIGINT, signal.SIGTERM)


class Place:
    """A folder to run a page's commands in.

    Args:
        folder (Path): An empty folder.
        demo (Path): What :func:`make_demo` made.
    """

    def __init__(self, folder: Path, demo: Path) -> None:
        self.folder = folder
        self.demo = demo
        shutil.copytree(demo / 'work_dirs', folder / 'work_dirs')

    def provide(self, word: str, config: Optional[str] = None) -> None:
        """Make what a word names, if the reader has it.

        A checkpoint without a maker is one of the config.
        """
        name = word.rpartition('=')[2].lstrip('@')
        # Of a data set the whole.
        name = re.sub(r'^(data/\w+).*', r'\1', name)
        path = self.folder / name
        if not name or path.exists() or re.search(r'[*{]', name):
            return
        for pattern, make in GIVEN.items():
            if re.match(pattern, name):
                path.parent.mkdir(parents=True, exist_ok=True)
                make(self, path)
                return
        if config and name.endswith('.pth'):
            path.parent.mkdir(parents=True, exist_ok=True)
            data.make_checkpoint(self.folder / config, path)

    def prepare(self, words: List[str]) -> List[str]:
        """Make what the words name, but what they are to write; the words."""
        words = [choose_config(word) for word in words]
        config = None
        for number, word in enumerate(words):
            if word.startswith('configs/'):
                config = self.config(word)
            elif word.endswith('/.../epoch_1.pth'):
                words[number] = f'work_dirs/{Path(config).stem}/epoch_1.pth'
            elif word == 'data_root=...':
                words[number] = f'data_root={ROOTS[config.split("/")[1]]}'
            elif re.search(WRITES, ' '.join(words[:number])):
                continue
            self.provide(words[number], config)
        return [name for word in words for name in self.expand(word)]

    def expand(self, word: str) -> List[str]:
        """A word, or the files that a shell would put in its place."""
        if '*' not in word:
            return [word]
        found = sorted(self.folder.glob(word))
        assert found, word
        return [path.relative_to(self.folder).as_posix() for path in found]

    def config(self, name: str) -> str:
        """The reduced config at its place, with all that it reads."""
        from mmengine.config import Config
        path = self.folder / name
        if not path.exists():
            config = Config.fromfile(str(ROOT / name))
            reduce_config(config._cfg_dict)
            path.parent.mkdir(parents=True, exist_ok=True)
            config.dump(str(path))
        for given in re.findall(r"'(data/[^/']+|\S+\.pth)", path.read_text()):
            self.provide(given, name)
        return name

    def run(self, words: List[str]) -> Tuple[str, object]:
        """Run a program of Python here, in this process.

        Returns what it printed, and what it ended with.
        """
        output = io.StringIO()
        with contextlib.redirect_stderr(output), \
                contextlib.redirect_stdout(output), \
                self.as_process(words):
            try:
                if words[1] == '-m':
                    runpy.run_module(words[2], run_name='__main__')
                else:
                    # Scripts import what lies beside them.
                    sys.path.insert(0, str((ROOT / words[1]).parent))
                    runpy.run_path(str(ROOT / words[1]), run_name='__main__')
            except SystemExit as stop:
                return output.getvalue(), stop.code or 0
        return output.getvalue(), 0

    @contextlib.contextmanager
    def as_process(self, words: List[str]) -> Iterator[None]:
        """Here, with such arguments, and leave no trace in this process."""
        path = list(sys.path)
        handlers = {n: signal.getsignal(n) for n in STOPPING}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(sys, 'argv', words[1 + ('-m' in words[:2]):] or [''])
            make_quick(patch)
            try:
                yield
            finally:
                sys.path[:] = path
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                forget()


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """Leave out what has tests of its own, and takes most of the time."""
    from mmdynperceiver.report import criteria_table, write
    patch.setattr(criteria_table, 'VARIANTS', criteria_table.VARIANTS[:2])
    patch.setattr(criteria_table, 'RESAMPLES', 10)
    patch.setattr(write, 'draw_all', draw_nothing)
    with contextlib.suppress(ImportError):
        import uvicorn
        run = uvicorn.Server.run
        patch.setattr(uvicorn.Server, 'run', lambda self: serve_one(self, run))


def serve_one(server: Any, run: Callable[[Any], None]) -> None:
    """Serve until an image is classified."""
    _, image = cv2.imencode('.jpg', np.zeros((64, 64, 3), np.uint8))
    thread = threading.Thread(target=run, args=(server, ), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    connection = http.client.HTTPConnection(
        server.config.host, server.config.port, timeout=60)
    connection.request('POST', '/v1/classify?top=3', image.tobytes(),
                       {'Content-Type': 'image/jpeg'})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()
    server.should_exit = True
    thread.join()


def draw_nothing(folder: Path, *args: Any) -> Any:
    """Leave empty pictures where those of a report would be."""
    from mmdynperceiver.report.draw import Pictures
    for name in ('accuracy_macs', 'accuracy_latency', 'shares', 'reliability',
                 'gallery'):
        cv2.imwrite(str(folder / f'{name}.png'), np.zeros((8, 8), np.uint8))
        for end in ('', '_narrow'):
            (folder / f'{name}{end}.svg').write_text(
                '<svg viewBox="0 0 8 8" width="8pt" height="8pt"></svg>')
    return Pictures({}, [])


def forget() -> None:
    """What a process of its own would not know of those before."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer
    for kind in (MMLogger, MessageHub, DefaultScope, Visualizer):
        kind._instance_dict.clear()


def copied(source: str) -> Callable[[Place, Path], None]:
    """Give a copy of something of the demo's."""

    def make(place: Place, path: Path) -> None:
        found = place.demo / source
        copy = shutil.copytree if found.is_dir() else shutil.copy
        copy(found, path)

    return make


def make_demo(folder: Path) -> Path:
    """The demo, and its network exported, in an empty folder."""
    from mmdynperceiver.cli import demo
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, 'COUNTS', COUNTS)
        make_quick(patch)
        patch.chdir(folder)
        patch.setattr(sys, 'argv', ['demo.py', '--epochs', '1', '--quiet'])
        assert demo.main() == 0
        assert run_tool('export', ROOT / DEMO_CONFIG,
                        'work_dirs/demo/epoch_1.pth', 'exported',
                        '--thresholds-file',
                        'work_dirs/demo/thresholds.json') is None
    return folder


def make_photo(place: Place, path: Path) -> None:
    """Give one of the demo's test images."""
    shutil.copy(next((place.demo / 'data/digits/test').rglob('*.jpg')), path)


# What a reader has, by how the pages call it.
GIVEN: Dict[str, Callable[[Place, Path], Any]] = {
    r'(photos|images|more)/?$': copied('data/digits/test'),
    r'(my|cat|dog)\.jpg$': make_photo,
    r'list\.txt$': data.make_list,
    r'videos/?$': data.make_clips,
    r'\w+\.mp4$': data.make_clip,
    r'data/digits$': copied('data/digits'),
    r'data/clips': data.make_digits('clips'),
    r'data/scenes': data.make_digits('scenes'),
    r'data/cifar10$': data.make_classes('train', 'test'),
    r'data/mine': data.make_classes('train', 'val', classes=12, each=2),
    r'data/imagenet': data.make_classes('train', 'val', classes=1000, used=8),
    r'data/BCCD': data.make_voc,
    r'data/coco': data.make_coco,
    r'dist/weights$': data.make_release,
    r'(\S+/)?((operating_)?point|thresholds)\.json$': data.make_point,
    r'work_dirs/\S+/curve\.csv$': copied('work_dirs/demo/report/curve.csv'),
    r'static\.csv$': data.make_table,
    r'node_modules/onnxruntime-web$': data.make_web_runtime,
    r'reg800m\.pth$': data.make_published,
    r'mobilenet_v2-b0353104\.pth$': data.make_torchvision,
    r'reg800m_mm\.pth$': data.make_trunk,
    r'(exported(-int8)?|digits)/?$': copied('exported'),
}  # yapf: disable


def choose_config(word: str) -> str:
    """A config in place of a placeholder such as configs/coco/CONFIG.py."""
    if word.endswith('/CONFIG.py'):
        path = sorted((ROOT / word).parent.glob('*.py'))[0]
        return path.relative_to(ROOT).as_posix()
    return word
