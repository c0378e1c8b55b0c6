# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From a folder of images to a calibrated, exported and measured model."""
from typing import Any

from .options import FitOptions
from .result import FitResult
from .run import fit_model

__all__ = ['FitOptions', 'FitResult', 'fit']


def fit(data: str, out: str, **options: Any) -> FitResult:
    """Train, calibrate, export and measure a model for images of classes.

    The same call goes on with what an interrupted one has done.

    Args:
        data (str): Folder or CSV file; see :class:`FitOptions`.
        out (str): Folder for everything that is made.
        **options: Of :class:`FitOptions`: one of ``budget_ms``,
            ``budget_macs``, ``min_accuracy`` and ``max_risk``; ``minutes``,
            ``backbone_weights``, ``image_size`` and so on.

    Raises:
        InputError: If the data or an option do not fit.

    Example:
        >>> import mmdynperceiver
        >>> result = mmdynperceiver.fit(
        ...     'photos/', 'mymodel/', budget_ms=5)       # doctest: +SKIP
        >>> result.accuracy, result.ms                    # doctest: +SKIP
    """
    return fit_model(FitOptions(data, out, **options))
