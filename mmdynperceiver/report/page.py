# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The report's page: one HTML file with everything inside, from templates."""
import base64
import io
import math
import re
from pathlib import Path
from typing import Any, Iterable, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ..io.atomic import write_text
from ..version import __version__
from .contents import Contents
from .criteria_table import CriterionRow
from .draw import LEAST_PLACES, NAMES, Pictures
from .figure import VARIABLES
from .gallery import mapped_exits, overlay
from .sweep import select

__all__ = ['write_page']

# Smaller pictures are drawings or icons, which JPEG would blur.
_PHOTO = 96


def write_page(path: Path, contents: Contents, pictures: Pictures) -> None:
    """Write the page.

    Args:
        path (Path): The file; the plots lie beside it.
        contents (Contents): All numbers.
        pictures (Pictures): What :func:`draw_all` returns.
    """
    unit = contents.unit
    sections = dict(
        points='Thresholds',
        curve='Accuracy against cost',
        exits='The exits',
        shares=f'Where {unit}s leave',
        reliability='Can the confidence be trusted?',
        criteria='Which criterion?')
    if pictures.gallery:
        sections['gallery'] = f'Easy and hard {unit}s'
    if pictures.maps:
        sections['maps'] = 'Where the exits look'
    criterion = contents.criterion
    if contents.temperature is not None:
        criterion += ' with temperatures ' + ', '.join(
            f'{value:.2f}' for value in contents.temperature)
    if contents.settings['ensemble'] is not None:
        kind = contents.settings['ensemble']['kind']
        criterion += f' of the {kind} of the exits so far'
    # Templates see every attribute of the contents, and these.
    page = _environment().get_template('page.html.j2').render(
        vars(contents),
        contents=contents,
        pictures=pictures,
        sections=sections,
        criterion_text=criterion,
        exit_names=[
            f'exit\N{NO-BREAK SPACE}{k}' for k in range(len(contents.macs))
        ],
        best=_best(contents.criteria),
        plots=_plots(path.parent),
        mapped=mapped_exits(pictures.maps))
    write_text(path, page)


def _environment() -> Environment:
    """What templates are read with: all that is no template is escaped."""
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True)
    environment.filters.update(
        macs=_macs, percent=_percent, interval=_interval, address=_address)
    environment.globals.update(
        overlay=overlay,
        select=select,
        series_names=NAMES,
        least_places=LEAST_PLACES,
        colours=VARIABLES,
        version=__version__)
    return environment


def _macs(value: float) -> str:
    """MACs with a unit."""
    return f'{value / 1e9:.3f} G' if value >= 1e9 else f'{value / 1e6:.3f} M'


def _percent(value: float, digits: int = 1) -> str:
    """A share in percent, or a dash if it is not known."""
    return '–' if math.isnan(value) else f'{100 * value:.{digits}f}'


def _interval(ends: Iterable[float], sign: str = '') -> str:
    """An interval of a share, in percent."""
    return ' to '.join(f'{100 * end:{sign}.1f}' for end in ends)


def _address(pixels: Any) -> str:
    """A picture (H, W, 3) as an address that holds all its bytes."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    kind = 'JPEG' if min(image.size) >= _PHOTO else 'PNG'
    image.save(file, kind, quality=90)
    data = base64.b64encode(file.getvalue()).decode('ascii')
    return f'data:image/{kind.lower()};base64,{data}'


def _plots(folder: Path) -> dict[str, list[tuple[str, str, Markup]]]:
    """Plots for wide and for narrow screens, with their greatest width."""
    plots: dict[str, list[tuple[str, str, Markup]]] = {}
    for path in sorted(folder.glob('*.svg')):
        text = path.read_text('utf-8')
        # Print of 14 pixels for letters of 10 points, as in the page.
        width = 1.4 * float(re.findall(r'viewBox="0 0 ([\d.]+)', text)[0])
        # Without what only a file needs.
        text = text[text.index('<svg'):]
        text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
        text = re.sub(r' xmlns(:\w+)?="[^"]*"', '', text, count=2)
        name = path.stem.removesuffix('_narrow')
        kind = 'wide' if name == path.stem else 'narrow'
        plots.setdefault(name, []).append(
            (kind, f'{width:.0f}px', Markup(text)))
    return plots


def _best(rows: Sequence[CriterionRow]) -> dict[str, Any]:
    """The best number of each column of the criteria, as it is written."""

    def best(values: Iterable[float], digits: int, choose: Any) -> str:
        texts = {_percent(value, digits) for value in values} - {'–'}
        return choose(texts, key=float, default='')

    return dict(
        area=best((row.area for row in rows), 2, max),
        ece=[best(exit, 2, min) for exit in zip(*(row.ece for row in rows))],
        auroc=[
            best(ends, 1, max) for ends in zip(*(row.auroc for row in rows))
        ])
