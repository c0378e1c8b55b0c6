# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Put a page together: an exported network, onnxruntime-web, and our code."""
import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmdynperceiver.deploy.manifest import MANIFEST, Manifest
from mmdynperceiver.errors import InputError
from mmdynperceiver.io.atomic import atomic_folder, check_new_folder

__all__ = ['CRITERIA', 'VERSION', 'build_page', 'check_runnable']

PAGE = Path(__file__).parent / 'page'
# What page/policy.js decides by.
CRITERIA = ('max_prob', 'entropy', 'margin', 'patience')
# What the page needs of onnxruntime-web, from its folder dist.
FILES = ('ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs',
         'ort-wasm-simd-threaded.wasm')
# What is downloaded if no folder is given, and what npm's registry says of it.
VERSION = '1.30.0'
INTEGRITY = ('q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02'
             'Vb7QmRMDs1SigqR4CXAfKYQ==')
SAMPLE_ENDINGS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp')

# Reads one file of the package, by its path in it.
Reader = Callable[[str], bytes]


def build_page(
    exported: Path | str,
    out: Path | str,
    package: Path | str | None = None,
    samples: Sequence[Path | str] = ()
) -> Manifest:
    """Write a folder that any web server can serve.

    It is written whole or not at all.

    Args:
        exported (Path | str): A folder of ``tools/export.py``.
        out (Path | str): A new or empty folder; the one above it must exist.
        package (Path | str, optional): The package onnxruntime-web, such as
            ``node_modules/onnxruntime-web``. Defaults to None: npm downloads
            the one that this was tested with.
        samples (Sequence[Path | str]): Images to offer on the page.

    Returns:
        Manifest: What the exported folder says of itself.

    Raises:
        FileExistsError: If there is something in the folder already.
        FileNotFoundError: If a file is missing.
        InputError: If the page cannot run the network, the package is none
            or too old, or npm fails.
        ValueError: If the exported folder was changed or is of a newer
            version.
    """
    check_new_folder(out)
    exported, names = Path(exported), _check_samples(samples)
    manifest = Manifest.load(exported)
    check_runnable(manifest, str(exported))
    read = _from_npm() if package is None else _from_folder(Path(package))
    _check_version(read, manifest)
    with atomic_folder(out) as temporary:
        new = Path(temporary)
        for path in PAGE.iterdir():
            shutil.copy(path, new)
        for name in ('model', 'onnxruntime', 'samples'):
            (new / name).mkdir()
        for name in (MANIFEST, *(s.file for s in manifest.segments)):
            shutil.copy(exported / name, new / 'model')
        for name in FILES:
            (new / 'onnxruntime' / name).write_bytes(read(f'dist/{name}'))
        for path in samples:
            shutil.copy(path, new / 'samples')
        (new / 'samples/samples.json').write_text(json.dumps(names))
    return manifest


def check_runnable(manifest: Manifest, folder: str) -> None:
    """Refuse a network that the page would answer otherwise than the runner.

    Raises:
        InputError: With what it is that the page does not know.
    """
    policy, problem = manifest.policy, None
    criterion = policy.get('criterion', 'max_prob')
    libraries = [
        step['library'] for step in manifest.preprocessing.get('steps', ())
        if 'library' in step
    ]
    if manifest.detection is not None or 'video' in manifest.preprocessing:
        problem = 'a network of another kind, and the page takes those that ' \
            'classify images: python -m mmdynperceiver.deploy runs it'
    elif manifest.precision != 'fp32':
        problem = f'the precision {manifest.precision!r}, and the page runs ' \
            'fp32: export without --int8-calibration'
    elif policy.get('ensemble') is not None:
        problem = 'an ensemble of exits, and on the page each answers ' \
            'alone: calibrate without --ensemble'
    elif criterion not in CRITERIA:
        problem = f'the criterion {criterion!r}, and the page decides by ' \
            f'{", ".join(CRITERIA)}: calibrate with one of these'
    elif set(libraries) - {'pillow'}:
        problem = "images resized by OpenCV, and the page resizes as Pillow " \
            "does: export with backend='pillow' in the test pipeline"
    if problem:
        raise InputError(f'{folder!r} has {problem}')


def _check_samples(samples: Sequence[Path | str]) -> list[str]:
    """Names of the sample images, each once."""
    paths = [Path(path) for path in samples]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f'there is no image {str(path)!r}')
        if path.suffix.lower() not in SAMPLE_ENDINGS:
            raise InputError(f'samples must end with one of '
                             f'{", ".join(SAMPLE_ENDINGS)}, got {path.name!r}')
    names = [path.name for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f'samples need names of their own, and {twice[0]!r} '
                         f'is there more than once: rename one')
    return names


def _from_folder(package: Path) -> Reader:
    """Read from a folder of the user's."""

    def read(name: str) -> bytes:
        path = package / name
        if not path.is_file():
            raise FileNotFoundError(
                f'{str(package)!r} is not the package onnxruntime-web: it has '
                f'no {name}; npm install onnxruntime-web@{VERSION} makes '
                f'node_modules/onnxruntime-web')
        return path.read_bytes()

    return read


def _from_npm() -> Reader:
    """Download the package by npm, and check what came."""
    npm = shutil.which('npm')
    if npm is None:
        raise InputError(
            'there is no npm to download onnxruntime-web by: install Node.js, '
            'or give the folder of the package by --onnxruntime-web')
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [npm, 'pack', '--silent', f'onnxruntime-web@{VERSION}'],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True)
        found = list(Path(folder).glob('*.tgz'))
        if done.returncode or len(found) != 1:
            lines = done.stderr.strip().splitlines() or ['no reason given']
            raise InputError(f'npm cannot download onnxruntime-web@{VERSION} '
                             f'({lines[0]}): give the folder of the package '
                             f'by --onnxruntime-web')
        content = found[0].read_bytes()
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if digest != INTEGRITY:
        raise InputError(f'onnxruntime-web@{VERSION} from npm has the SHA-512 '
                         f'{digest}, expected was {INTEGRITY}: it is not used')

    def read(name: str) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            member = archive.extractfile(f'package/{name}')
            assert member is not None
            return member.read()

    return read


def _check_version(read: Reader, manifest: Manifest) -> None:
    """Refuse a package that is too old for the graphs."""
    found = str(json.loads(read('package.json')).get('version'))
    needed: Any = (manifest.versions.get('needed') or {}).get('onnxruntime')
    if needed is not None and _numbers(found) < _numbers(needed):
        raise InputError(
            f'onnxruntime-web {found} is too old for this network, which '
            f'needs {needed} or later: npm install onnxruntime-web@{VERSION}, '
            f'or export with a smaller --opset')


def _numbers(version: str) -> tuple[int, ...]:
    """A version that can be compared."""
    return tuple(map(int, re.findall(r'\d+', version)[:3]))
