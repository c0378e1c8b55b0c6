# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The report: a folder of tables and pictures, and a page that shows them."""
import os
from pathlib import Path
from typing import Any, Callable, Sequence

from rich.progress import Progress

from ..io.atomic import write_json, write_text
from .contents import HELD_OUT, TEST, Contents, Labelled
from .criteria_table import VARIANTS
from .curve import Curve
from .draw import draw_all
from .folder import check_report_folder, replacing_report
from .page import write_page
from .sweep import rows_to_csv

__all__ = ['write_report']


def write_report(folder: str | os.PathLike,
                 *,
                 held_out: Labelled,
                 test: Labelled | None = None,
                 macs: Sequence[float],
                 model_name: str,
                 points: Sequence[Any] = (),
                 latency_ms: Sequence[float] | None = None,
                 images: Callable[[int], Any] | None = None,
                 model: Any = None,
                 curves: Sequence[Curve] = (),
                 criterion: str | None = None,
                 temperature: Sequence[float] | None = None,
                 ensemble: Any = None,
                 class_names: Sequence[str] | None = None,
                 map_samples: Sequence[int] | None = None,
                 num_budgets: int = 33,
                 unit: str | None = None,
                 progress: bool = True) -> Path:
    """Write what to judge an early-exit model by.

    Both solvers are run on the held-out samples for a row of budgets
    and judged on these and on the test samples, beside each static exit and
    leaving at random with the same shares. The pictures are of the test
    samples, or of the held-out ones without these.

    Args:
        folder (str | PathLike): Where ``index.html``, ``curve.csv``,
            ``curve.json`` and the pictures (PNG, and plots as SVG) go. It
            appears when all is done; an older report there is then replaced.
        held_out (ExitLogits): ``logits`` (N, K) of each exit and ``labels``
            (N,); ``paths`` of image files are used if ``images`` is None.
        test (ExitLogits, optional): The same, on which nothing is solved.
        macs (Sequence[float]): Cumulative MACs of each exit.
        model_name (str): For headings.
        points (Sequence[OperatingPoint]): Those to mark; the first one says
            which image left where. Defaults to none: the searched one of
            the middle budget.
        latency_ms (Sequence[float], optional): Cumulative, of each exit.
        images (Callable, optional): Number of a pictured sample ->
            :class:`Sample`.
        model (DynPerceiver | DynPerceiverClassifier, optional): For
            activation maps, which also need ``images`` with inputs.
        curves (Sequence[Curve]): Others on the plot of accuracy against
            MACs, such as ``published_curves()``.
        criterion (str, optional): What thresholds are compared with.
            Defaults to None: the first point's, or the largest probability.
        temperature (Sequence[float], optional): Of each exit. Defaults to
            None: the first point's, if the criterion is.
        ensemble (Mapping, optional): How exits answer together. Defaults to
            None: the first point's, if the criterion is.
        class_names (Sequence[str], optional): Defaults to None, the numbers.
        map_samples (Sequence[int], optional): Samples whose activation maps
            are drawn. Defaults to None, two that leave at each exit.
        num_budgets (int): From the first exit's MACs to the last one's.
        unit (str, optional): What a sample is, 'image' or 'clip'. Defaults
            to None: what ``images`` says, or 'image'.
        progress (bool): Whether to show a progress bar.

    Returns:
        Path: The page, ``folder/index.html``.

    Raises:
        FileExistsError: If the folder exists and is no report.
        ValueError: If an argument does not fit.
    """
    if num_budgets < 2:
        raise ValueError(f'a report needs at least 2 budgets, got '
                         f'{num_budgets}')
    unit = unit or getattr(images, 'unit', 'image')
    if unit not in ('image', 'clip'):
        raise ValueError(f"unit must be 'image' or 'clip', got {unit!r}")
    folder = check_report_folder(folder)
    sets = {HELD_OUT: held_out, **({} if test is None else {TEST: test})}
    with Progress(transient=True, disable=not progress) as bar:
        task = bar.add_task('report', total=num_budgets + len(VARIANTS) + 2)

        def tick() -> None:
            bar.advance(task)

        contents = Contents(sets, model_name, unit, macs, latency_ms, points,
                            criterion, temperature, ensemble, curves,
                            num_budgets, tick)
        with replacing_report(folder) as place:
            write_text(place / 'curve.csv', rows_to_csv(contents.rows))
            write_json(place / 'curve.json', contents.as_dict())
            pictures = draw_all(place, contents, images, model, class_names,
                                map_samples)
            tick()
            write_page(place / 'index.html', contents, pictures)
            tick()
    return folder / 'index.html'
