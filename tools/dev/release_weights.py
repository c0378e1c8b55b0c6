# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Pack the weights of a release, with their checksums and their commands.

    python tools/dev/release_weights.py dist/weights

Each row of ``RELEASES`` that was trained becomes a folder as
``mmdynperceiver share`` writes it, and that a zip file, the same for the same
checkpoint. ``SHA256SUMS`` is for ``sha256sum -c``; ``COMMANDS.md`` says what
made each.
"""
import argparse
import shlex
import zipfile
from pathlib import Path
from typing import List, NamedTuple

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.cli import commands, common
from mmdynperceiver.errors import InputError
from mmdynperceiver.io.atomic import atomic_folder, check_new_folder
from mmdynperceiver.io.checksums import file_sha256
from mmdynperceiver.io.model_folder import read_folder
from mmdynperceiver.io.released import SUMS, VARIABLE

ROOT = Path(__file__).resolve().parents[2]
# The earliest date that a zip file can hold.
DATE = (1980, 1, 1, 0, 0, 0)


class Release(NamedTuple):
    """A network to pack.

    Args:
        name (str): Of its folder and its file.
        config, checkpoint, point (str): Config, checkpoint and operating
            point, below the checkout.
        made_by (Sequence[str]): The commands that make these.
        about (str): What the card says it was trained on.
        size (int): Height and width of its images.
    """

    name: str
    config: str
    checkpoint: str
    point: str
    made_by: List[str]
    about: str
    size: int


CIFAR = 'configs/cifar/' \
        'dyn-perceiver_resnet22-w025_1xb128-10e_cifar10-folder.py'
WORK = 'work_dirs/cifar'
EXCLUDE = f'--cfg-options train_dataloader.dataset.exclude=' \
          f'{WORK}/hold_out_train_5000.txt'
# Those of docs/cifar.md.
CIFAR_COMMANDS = [
    f'mmdynperceiver calibrate {CIFAR} --hold-out 5000 --work-dir {WORK}',
    f'mmdynperceiver train {CIFAR} --work-dir {WORK}/dyn-perceiver {EXCLUDE} '
    f'randomness.seed=0',
    f'mmdynperceiver calibrate {CIFAR} {WORK}/dyn-perceiver/epoch_10.pth '
    f'--budget-macs 50% --split train --hold-out 5000 --test --work-dir '
    f'{WORK} --out {WORK}/dyn-perceiver/point.json {EXCLUDE}'
]
RELEASES = [
    Release('digits-resnet22-w025',
            'configs/demo/dyn-perceiver_resnet22-w025_1xb128_digits.py',
            'work_dirs/demo/epoch_5.pth', 'work_dirs/demo/thresholds.json',
            ['make demo'], '30,000 scenes of projects/digits', 64),
    Release('cifar10-resnet22-w025', CIFAR,
            'work_dirs/cifar/dyn-perceiver/epoch_10.pth',
            'work_dirs/cifar/dyn-perceiver/point.json', CIFAR_COMMANDS,
            '45,000 images of CIFAR-10', 32),
]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', help='folder to write; new or empty')
    parser.add_argument(
        'names',
        nargs='*',
        metavar='NAME',
        help=f'of {", ".join(r.name for r in RELEASES)} (default: all)')
    return parser.parse_args()


def choose(names: List[str]) -> List[Release]:
    """The releases of these names, or all; each must have been trained.

    Raises:
        InputError: Naming the file that is missing, and what makes it.
    """
    known = {release.name: release for release in RELEASES}
    for name in names:
        if name not in known:
            raise InputError(f'there is no release {name!r}: they are '
                             f'{", ".join(known)}')
    chosen = [known[name] for name in names or known]
    for release in chosen:
        for path in (release.config, release.checkpoint, release.point):
            if not (ROOT / path).is_file():
                raise InputError(
                    f'{release.name} needs {path}, which these '
                    f'commands make: {"; ".join(release.made_by)}')
    return chosen


def share_command(release: Release, folder: str,
                  root: Path = Path()) -> List[str]:
    """The command that saves the folder."""
    config, checkpoint, point = (
        str(root / path)
        for path in (release.config, release.checkpoint, release.point))
    return [
        'share', config, checkpoint, folder, '--thresholds-file', point,
        '--size',
        str(release.size),
        str(release.size), '--about', f'trained on={release.about}'
    ]


def pack(folder: Path, path: Path) -> None:
    """Put a folder into a zip file that depends on its content alone."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as file:
        for entry in sorted(folder.iterdir()):
            info = zipfile.ZipInfo(f'{folder.name}/{entry.name}', DATE)
            info.external_attr = 0o644 << 16
            file.writestr(info, entry.read_bytes())


def main() -> None:
    """Save, check, pack and sum up."""
    args = parse_args()
    chosen = choose(args.names)
    with common.input_errors(OSError):
        check_new_folder(args.out)
    common.check_writable_folder(args.out)
    how = ['# How these files were made', '']
    sums = []
    with atomic_folder(args.out) as out:
        for release in chosen:
            folder = Path(out) / release.name
            # Ends the run, with the reason, if it cannot be saved.
            commands.main(share_command(release, str(folder), ROOT))
            read_folder(folder)
            path = folder.with_suffix('.zip')
            pack(folder, path)
            sums.append(f'{file_sha256(path)}  {path.name}')
            shown = shlex.join(share_command(release, release.name))
            lines = [*release.made_by, f'mmdynperceiver {shown}']
            how += [
                f'## {release.name}', '', *(f'    {line}' for line in lines),
                ''
            ]
        (Path(out) / SUMS).write_text('\n'.join(sums) + '\n')
        (Path(out) / 'COMMANDS.md').write_text('\n'.join(how))
    print('\n'.join(sums))
    print(f'wrote {args.out}; {VARIABLE}={args.out} finds them by name')


if __name__ == '__main__':
    common.run_tool(main)
