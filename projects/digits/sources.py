# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The handwritten digits that every generated data set is made from."""
import cv2
import numpy as np

SPLITS = ('train', 'val', 'test')
NUM_CLASSES = 10

# Digits per class for train and for test; validation gets what is left.
_TRAIN_PER_CLASS = 120
_TEST_PER_CLASS = 30
# The split is fixed and independent of a data set's seed: two data sets made
# with different seeds can then be mixed without a test digit in the training.
_SPLIT_SEED = 20230814

# A source digit has 8 x 8 cells. Its stroke field has a margin of two empty
# cells on each side and CELL samples per cell, hence 48 x 48 samples.
GRID = 8
CELL = 4
MARGIN = 2


class DigitSource:
    """The source digits of one split, up-sampled to smooth stroke fields.

    The 1,797 digits that scikit-learn bundles were written by 43 people and
    reduced to 8x8 cells with 17 grey levels. They are split by class into
    1,200 for training, 300 for test and the other 297 for validation, the
    same way in every run, so that no digit is ever in two splits.

    A stroke field is a smooth function, about 0 off the stroke and about 1 on
    it. Thresholding it *after* it has been warped gives a sharp, anti-aliased
    stroke at any size, and the threshold sets the weight of the pen.

    Args:
        split (str): One of 'train', 'val' and 'test'.

    Attributes:
        indices (np.ndarray): Row of each digit in ``load_digits``, (n, ).
        labels (np.ndarray): Class of each digit, (n, ).
        fields (np.ndarray): Stroke fields, (n, 48, 48), float32.
        centers (np.ndarray): Centre (x, y) of its strokes in field samples,
            (n, 2).
        extents (np.ndarray): Width and height of them in cells, (n, 2).

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If ``split`` is unknown.

    Source: the digits are the test part of E. Alpaydin and C. Kaynak, Optical
    Recognition of Handwritten Digits, UCI repository, as shipped in
    ``sklearn.datasets.load_digits``.
    """

    def __init__(self, split: str) -> None:
        if split not in SPLITS:
            raise ValueError(
                f'split must be one of {", ".join(SPLITS)}, got {split!r}')
        # Imported late: it takes a second, and reusing a finished data set
        # does not need it.
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ImportError(
                f'the digits come with scikit-learn, which cannot be imported '
                f'({error}): pip install scikit-learn') from error
        digits = load_digits()
        self.indices = _split_rows(digits.target)[split]
        self.labels = digits.target[self.indices]
        images = digits.images[self.indices].astype(np.float32) / 16
        self.fields = np.stack([_stroke_field(image) for image in images])
        # x, y, width and height of the strokes in samples
        boxes = np.array([
            cv2.boundingRect((field > 0.45).astype(np.uint8))
            for field in self.fields
        ])
        self.centers = boxes[:, :2] + (boxes[:, 2:] - 1) / 2
        self.extents = boxes[:, 2:] / CELL

    def __len__(self) -> int:
        return len(self.indices)

    def members(self, label: int) -> np.ndarray:
        """Positions in this split of all digits of one class, (m, )."""
        return np.flatnonzero(self.labels == label)


def _split_rows(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Part the rows of the bundled digits into disjoint stratified splits."""
    # RandomState, because its stream is the same in every NumPy release.
    rng = np.random.RandomState(_SPLIT_SEED)
    cuts = (_TEST_PER_CLASS, _TEST_PER_CLASS + _TRAIN_PER_CLASS)
    parts = [
        np.split(rng.permutation(np.flatnonzero(labels == label)), cuts)
        for label in range(NUM_CLASSES)
    ]
    test, train, val = (np.sort(np.concatenate(rows)) for rows in zip(*parts))
    return dict(train=train, val=val, test=test)


def _stroke_field(cells: np.ndarray) -> np.ndarray:
    """Up-sample 8x8 cells in [0, 1] to a smooth field of 48x48 samples."""
    cells = np.pad(cells, MARGIN)
    field = cv2.resize(
        cells, None, fx=CELL, fy=CELL, interpolation=cv2.INTER_CUBIC)
    field = cv2.GaussianBlur(field, (0, 0), 0.25 * CELL)
    # Cells mix thin strokes and the holes between them with their
    # surroundings; raising each sample against its neighbourhood keeps thin
    # strokes whole and holes open at one common threshold.
    around = cv2.GaussianBlur(field, (0, 0), 1.25 * CELL)
    return np.ascontiguousarray(field + 0.8 * (field - around))
