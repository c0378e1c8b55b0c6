# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the command line prints: a line for each image, and a summary."""
import os
import sys
import time
from typing import Dict, Iterator, List, Sequence

import numpy as np

from ..datasets.image_files import Broken
from ..io.result_file import printable
from .manifest import Manifest
from .runner import Result
from .stream import Classified

__all__ = ['Count', 'Printer', 'say_skipped', 'skipped_files']

# How many broken files the summary names.
NAMED = 10
# Seconds between two updates of the count, on a terminal and elsewhere.
OFTEN, SELDOM = 0.1, 30.
# Back to the start of the line, and clear it.
CLEAR = '\r\x1b[K'
NO_SCORES = np.empty(0, np.float32)


class Count:
    """Shows on standard error how far something is, where it takes long.

    On a terminal it is one line that changes: ``1,000 of 1,500 images``.
    """

    def __init__(self, total: int, what: str = 'images') -> None:
        self.total = total
        self.what = what
        self._terminal = sys.stderr.isatty()
        self._last = time.monotonic() - OFTEN * self._terminal
        self._shown = False

    def show(self, done: int) -> None:
        """Show how many are done, unless that was done just now."""
        now = time.monotonic()
        if now - self._last < (OFTEN if self._terminal else SELDOM):
            return
        self.clear()
        self._last, self._shown = now, self._terminal
        print(
            f'{done:,} of {self.total:,} {self.what}',
            end='' if self._terminal else '\n',
            file=sys.stderr,
            flush=True)

    def clear(self) -> None:
        """Take it away, for something else to be printed."""
        if self._shown:
            print(CLEAR, end='', file=sys.stderr, flush=True)
            self._shown = False


def say_skipped(entry: Broken) -> None:
    """Name a file that is passed over, on standard error."""
    print(printable(f'skipped: {entry.reason}', sys.stderr), file=sys.stderr)


def skipped_files(skipped: Sequence[Broken]) -> str:
    """Sum up the files that were passed over, and name the first few."""
    names = ', '.join(printable(entry.path) for entry in skipped[:NAMED])
    more = len(skipped) - NAMED
    were = 'was' if len(skipped) == 1 else 'were'
    return f'{len(skipped)} could not be read and {were} skipped: {names}' \
           f'{f" and {more} more" if more > 0 else ""}'


class Printer:
    """Prints results as they come, and counts.

    ``images`` are all files, of which ``batch_size`` run together; with
    ``quiet`` there is no line for each. ``noun`` is what they are.
    """

    def __init__(self,
                 images: Sequence[str],
                 batch_size: int,
                 quiet: bool,
                 noun: str = 'image') -> None:
        self.noun = noun
        self.batch_size = batch_size
        self.quiet = quiet
        self.results: List[Result] = []
        self.skipped: List[Broken] = []
        self.batches: List[float] = []
        self.count = Count(len(images), f'{noun}s')
        self._width = max([len(printable(path)) for path in images] + [5])

    def say(self, line: str) -> None:
        """Print a line where the count may stand."""
        self.count.clear()
        try:
            print(printable(line), flush=True)
        except BrokenPipeError:
            # Whoever reads has enough; the results are still to be written.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def broken(self, entry: Broken) -> None:
        """Name a file that is passed over."""
        self.count.clear()
        self.skipped.append(entry)
        say_skipped(entry)

    def batch(self, done: Classified) -> None:
        """Print the lines of a batch, and the count."""
        for result in done.results:
            if not self.quiet and not self.results:
                self.say(f'{self.noun:{self._width}}  class, score, exit, ms')
            # The scores of all classes would fill the memory.
            self.results.append(result._replace(scores=NO_SCORES))
            if not self.quiet:
                self.say(f'{printable(result.path or ""):{self._width}}  '
                         f'{result.name} {result.score:.3f}, exit '
                         f'{result.exit_index}, {result.milliseconds:.2f}')
        if len(done.results) == self.batch_size:
            self.batches.append(done.milliseconds)
        self.count.show(len(self.results) + len(self.skipped))

    def summary(self, manifest: Manifest) -> None:
        """Sum up what a network made of the files."""
        self.count.clear()
        for line in self._summary(manifest) if self.results else ():
            self.say(line)
        if self.skipped:
            self.say(skipped_files(self.skipped))

    def _summary(self, manifest: Manifest) -> Iterator[str]:
        """The lines of the summary."""
        results, num_exits = self.results, manifest.num_exits
        left = np.bincount([r.exit_index for r in results],
                           minlength=num_exits) / len(results)
        macs = float(np.mean([r.macs for r in results]))
        yield (f'{len(results)} {self.noun}s; left at exits 0 to '
               f'{num_exits - 1}: '
               f'{" / ".join(f"{share:.0%}" for share in left)}; mean '
               f'{macs / 1e6:.1f} M MACs, '
               f'{macs / manifest.macs_per_exit[-1]:.0%} of the last exit')
        yield 'milliseconds, median / p90 (90th percentile), without warm-up:'
        one = f'{"an" if self.noun == "image" else "a"} {self.noun}'
        doing = 'classifying' if manifest.detection is None else 'detecting in'
        titles = {
            'preparing': f'preparing {one}',
            self.noun: f'{doing} {one}' if self.batch_size == 1 else
            f'{one}, from the start of its batch until it left',
            'batch': f'a batch of {self.batch_size}'
        }
        for key, found in self.times().items():
            each = f', so {found["median"] / self.batch_size:.2f} {one}' \
                if key == 'batch' else ''
            yield f'  {titles[key]}: {found["median"]:.2f} / ' \
                  f'{found["p90"]:.2f}{each}'

    def times(self) -> Dict[str, Dict[str, float]]:
        """Milliseconds without warm-up.

        Returns:
            dict: ``median`` and ``p90`` of ``preparing`` an image, of an
            ``image`` (or ``video``) from the start of its batch until it
            left, and, where several run together, of a whole ``batch``.
        """
        kinds = {
            'preparing': [r.preparing_milliseconds for r in self.results],
            self.noun: [r.milliseconds for r in self.results],
            'batch': self.batches if self.batch_size > 1 else []
        }
        return {
            kind:
            dict(zip(('median', 'p90'), np.percentile(values, [50, 90])))
            for kind, values in kinds.items() if values
        }
