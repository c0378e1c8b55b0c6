# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Check Something-Something before training on it.

Frame folders and lists that do not fit each other train without an error and
then reach about half of the accuracy. This tells what does not fit, in order
of how much it hurts: missing folders and frames, frame counts, the numbering
of the frames, labels, videos in both lists.
"""
import argparse
import csv
import os.path as osp
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
from rich.console import Console
from rich.progress import track

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.cli import common
from mmdynperceiver.datasets.checked_files import MOST_FRAMES, frames_missing
from mmdynperceiver.datasets.lists import read_classes, read_lines
from mmdynperceiver.errors import InputError

# Videos of the two lists of V1, and its classes.
EXPECTED = dict(train=86017, val=11522)
NUM_CLASSES = 174
# Examples shown of each finding.
SHOWN = 3


class Video(NamedTuple):
    """A line of a list."""

    folder: str
    total_frames: int
    label: int


class Findings:
    """What is wrong, by kind, with examples."""

    def __init__(self) -> None:
        self.errors: Dict[str, List[str]] = defaultdict(list)
        self.notes: List[str] = []

    def add(self, kind: str, example: str) -> None:
        """Add an error."""
        self.errors[kind].append(example)

    def report(self) -> None:
        """Print everything."""
        console = Console(
            highlight=False, soft_wrap=True, emoji=False, markup=False)
        for note in self.notes:
            console.print(f'note: {note}')
        for kind, examples in self.errors.items():
            console.print(f'{len(examples):,} {kind}', style='red')
            for example in examples[:SHOWN]:
                console.print(f'    {example}')
        if not self.errors:
            console.print('nothing wrong was found')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Check frame folders and lists of Something-Something. '
        'The exit status is 1 if anything is wrong.')
    parser.add_argument('root', help='folder of the data')
    parser.add_argument(
        '--frames', default='rawframes', help='folder of the frame folders')
    for name in EXPECTED:
        parser.add_argument(
            f'--{name}',
            default=f'sthv1_{name}_list_rawframes.txt',
            help='list file')
    parser.add_argument(
        '--filename-tmpl',
        default='{:05}.jpg',
        help="name of a frame, as the config's dataset has it (default: "
        '%(default)s)')
    parser.add_argument(
        '--start-index',
        type=int,
        default=1,
        help='number of the first frame (default: 1)')
    parser.add_argument(
        '--num-classes',
        type=int,
        default=NUM_CLASSES,
        help='number of classes (default: %(default)s)')
    parser.add_argument(
        '--labels',
        help="the data set's own file of class names, one in each line in "
        'alphabetical order: label k is line k, from 0')
    parser.add_argument(
        '--annotations',
        nargs='+',
        default=[],
        help="the data set's own CSV files of videos, 'id;class name', to "
        'compare the labels with; needs --labels')
    parser.add_argument(
        '--workers', type=int, default=8, help='threads (default: 8)')
    return parser.parse_args()


def read_list(path: str, name: str, findings: Findings) -> List[Video]:
    """Read a list; lines that do not fit are findings."""
    if not osp.isfile(path):
        raise InputError(f'there is no {name} list {path!r}: make it with '
                         f"MMAction2's data tools, or name it with --{name}")
    videos = []
    for number, line in read_lines(path, f'{name} list'):
        try:
            folder, total, label = line.split()
            video = Video(folder, int(total), int(label))
            if not 0 <= video.total_frames <= MOST_FRAMES:
                raise ValueError('no number of frames')
            videos.append(video)
        except ValueError:
            findings.add(
                f'lines of the {name} list that are not a folder, its number '
                f'of frames and a label', f'line {number}: {line!r}')
    return videos


def check_lists(lists: Dict[str, List[Video]], num_classes: int,
                findings: Findings) -> None:
    """Compare labels and folders within and between the lists."""
    seen: Dict[str, str] = {}
    for name, videos in lists.items():
        for video in videos:
            if video.folder in seen:
                findings.add('videos that are listed twice',
                             f'{video.folder} ({seen[video.folder]}, {name})')
            seen[video.folder] = name
            if not 0 <= video.label < num_classes:
                findings.add(
                    f'labels outside of 0 to {num_classes - 1}: labels count '
                    f'from 0', f'{video.folder}: {video.label}')
        absent = set(range(num_classes)) - {video.label for video in videos}
        if absent:
            findings.add(
                f'classes without a video in the {name} list: the list is '
                f'not whole, or labels count from 1',
                ', '.join(map(str, sorted(absent))))
        if num_classes == NUM_CLASSES and len(videos) != EXPECTED[name]:
            findings.notes.append(
                f'the {name} list has {len(videos):,} videos; Something-'
                f'Something V1 has {EXPECTED[name]:,}')


def check_folder(root: str, video: Video,
                 args: argparse.Namespace) -> Optional[Tuple[str, str]]:
    """Compare a folder with its line: None, or kind and example."""
    folder, count = osp.join(root, video.folder), video.total_frames
    if not osp.isdir(folder):
        return 'folders that are missing', video.folder
    # With the frames before and behind those of the line.
    before, *names, following = (
        args.filename_tmpl.format(args.start_index + k)
        for k in range(-1, count + 1))
    missing = frames_missing(folder, names)
    if missing == names:
        present = sorted(path.name for path in Path(folder).iterdir())[:1]
        return ('folders in which no frame has the expected name: set '
                '--filename-tmpl, and filename_tmpl in the config',
                f'{video.folder}: {present[0] if present else "empty"}, '
                f'expected {names[0] if names else args.filename_tmpl}')
    if osp.exists(osp.join(folder, before)):
        return (f'folders whose frames begin before number '
                f'{args.start_index}: set --start-index, and start_index in '
                f'the config', f'{video.folder}: {before}')
    if missing:
        return ('folders with missing or empty frames',
                f'{video.folder}: {len(missing)} of {count}, the first: '
                f'{missing[0]}')
    if osp.exists(osp.join(folder, following)):
        return ('folders with more frames than the list says, so that the '
                'end of the video is never seen',
                f'{video.folder}: {following} is there')
    middle = names[count // 2]
    if cv2.imread(osp.join(folder, middle)) is None:
        return 'frames that cannot be decoded', f'{video.folder}/{middle}'
    return None


def check_folders(root: str, videos: Sequence[Video], args: argparse.Namespace,
                  findings: Findings) -> None:
    """Compare all folders with their lines."""
    if not osp.isdir(root):
        raise InputError(f'there is no folder of frames {root!r}: name it '
                         f'with --frames')
    with ThreadPoolExecutor(args.workers) as pool:
        found = pool.map(lambda video: check_folder(root, video, args), videos)
        for result in track(
                found, 'checking', total=len(videos), transient=True):
            if result is not None:
                findings.add(*result)
    counts = [video.total_frames for video in videos]
    short = sum(count < 8 for count in counts)
    if short:
        findings.notes.append(
            f'{short:,} videos have fewer than 8 frames, which are repeated')
    findings.notes.append(
        f'{len(videos):,} videos of {min(counts)} to {max(counts)} frames, '
        f'{sum(counts) / len(counts):.1f} on average')


def check_labels(videos: Sequence[Video], args: argparse.Namespace,
                 findings: Findings) -> None:
    """Compare labels with the data set's own files."""
    classes = read_classes(args.labels)
    if len(classes) != args.num_classes:
        findings.add('files of class names of another length',
                     f'{args.labels}: {len(classes)} names')
    if classes != sorted(classes):
        findings.notes.append(f'{args.labels} is not in alphabetical order')
    mirrored = [
        f'{k}: {name}' for k, name in enumerate(classes)
        if re.search(r'\b(left|right)\b', name)
    ]
    findings.notes.append('classes that a mirror may change (flip_label_map '
                          'must pair them): ' + '; '.join(mirrored))
    own: Dict[str, str] = {}
    for path in args.annotations:
        if not osp.isfile(path):
            raise InputError(f'there is no file of annotations {path!r}')
        try:
            with open(path, newline='', encoding='utf-8-sig') as file:
                own.update(row[:2] for row in csv.reader(file, delimiter=';'))
        except (csv.Error, ValueError) as error:
            raise InputError(
                f'each line of {path!r} must be a video, a semicolon and the '
                f'name of its class: {error}') from error
    for video in videos if own else ():
        name = own.get(osp.basename(video.folder))
        if name is None:
            findings.add("videos that are not in the data set's own files",
                         video.folder)
        elif not 0 <= video.label < len(classes) or \
                classes[video.label] != name:
            findings.add(
                "labels that are not those of the data set's own files",
                f'{video.folder}: {video.label}, its class is {name!r}')


def main() -> None:
    """Check everything and report."""
    args = parse_args()
    if args.annotations and not args.labels:
        raise InputError('--annotations needs --labels')
    if args.workers < 1:
        raise InputError(f'--workers must be at least 1, got {args.workers}')
    with common.input_errors(
            LookupError,
            ValueError,
            where=f'--filename-tmpl {args.filename_tmpl!r}: '):
        args.filename_tmpl.format(args.start_index)
    findings = Findings()
    lists = {
        name:
        read_list(osp.join(args.root, getattr(args, name)), name, findings)
        for name in EXPECTED
    }
    videos = [video for part in lists.values() for video in part]
    if not videos:
        raise InputError('the lists hold no videos')
    check_lists(lists, args.num_classes, findings)
    if args.labels:
        check_labels(videos, args, findings)
    check_folders(osp.join(args.root, args.frames), videos, args, findings)
    findings.report()
    if findings.errors:
        raise InputError(f'{len(findings.errors)} kinds of faults were found')


if __name__ == '__main__':
    common.run_tool(main)
