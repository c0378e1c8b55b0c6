# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What all pictures share: colours, fonts and files."""
import io
import os
import re
from functools import lru_cache
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib import font_manager, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from ..io.atomic import atomic_file, write_text

__all__ = [
    'COLOURS', 'INK', 'PAPER', 'SOFT', 'VARIABLES', 'drawable', 'exit_colour',
    'figure_pixels', 'font_file', 'save_figure', 'settle', 'short', 'styled'
]

# Okabe-Ito, which colour-blind readers tell apart, too, and others for more
# curves than it has colours.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9',
           '#882255', '#999933', '#44337a', '#7a5c3e', '#4d4d4d')
INK, SOFT, GRID, PAPER = '#1b1f24', '#57606a', '#d0d7de', '#ffffff'
# In an SVG each colour is a variable of the page, which knows whether it is
# dark; on its own the picture has the colour itself.
VARIABLES = dict(
    zip((INK, SOFT, GRID, PAPER, *COLOURS),
        ('--ink', '--soft', '--line', '--card',
         *(f'--c{k}' for k in range(len(COLOURS))))))
# Fonts of other scripts, for what the first one lacks.
_FAMILIES = ('Noto Sans CJK JP', 'Noto Sans CJK SC', 'WenQuanYi Zen Hei',
             'Microsoft YaHei', 'Hiragino Sans', 'Noto Sans Devanagari',
             'Noto Sans Thai', 'Arial Unicode MS')


def exit_colour(number: int) -> str:
    """The colour of an exit, or of any other numbered thing."""
    return COLOURS[number % len(COLOURS)]


@lru_cache(maxsize=None)
def _families() -> tuple[str, ...]:
    """The fonts that are here; each gives what those before lack."""
    known = {font.name for font in font_manager.fontManager.ttflist}
    return ('DejaVu Sans', *(name for name in _FAMILIES if name in known))


@lru_cache(maxsize=None)
def _characters() -> dict[str, frozenset[int]]:
    """Files of these fonts, and the codes of the characters that they have."""
    paths = [font_manager.findfont(name) for name in _families()]
    return {path: frozenset(FT2Font(path).get_charmap()) for path in paths}


def font_file(text: str) -> str:
    """File of the font that lacks fewest of the characters of a text."""
    wanted = {ord(x) for x in text}
    return min(
        _characters().items(), key=lambda item: len(wanted - item[1]))[0]


def drawable(name: str, otherwise: str) -> str:
    """A name in any script if the fonts here have it, else another one."""
    known = frozenset().union(*_characters().values())
    return name if {ord(x) for x in name} <= known else otherwise


def short(name: str, length: int = 13) -> str:
    """A name of a class, cut where it would write over its neighbour."""
    name = name.split(',')[0].strip() or name
    return name if len(name) <= length else name[:length - 1] + '…'


def styled() -> Any:
    """Matplotlib's settings of all pictures: a context, or a decorator."""
    return rc_context({
        'font.family': [*_families(), 'sans-serif'],
        'font.size': 10,
        # Names may hold dollar signs, which are no formulas.
        'text.parse_math': False,
        'text.color': INK,
        'axes.labelcolor': INK,
        'axes.prop_cycle': cycler(color=COLOURS),
        'axes.edgecolor': SOFT,
        'axes.facecolor': 'none',
        'axes.titlesize': 11,
        'axes.spines.top': False,
        'axes.spines.right': False,
        'grid.color': GRID,
        'grid.linewidth': 0.6,
        'legend.frameon': False,
        'xtick.color': SOFT,
        'ytick.color': SOFT,
        'xtick.labelcolor': INK,
        'ytick.labelcolor': INK,
        # Text stays text: it can be read aloud and searched for.
        'svg.fonttype': 'none',
        'svg.hashsalt': 'mmdynperceiver',
    })


def settle(figure: Figure) -> Figure:
    """Lay a complete picture out, once for all files: nothing moves again."""
    figure.draw_without_rendering()
    figure.set_layout_engine('none')
    return figure


@styled()
def save_figure(figure: Figure,
                path: str | os.PathLike | None,
                dpi: int = 150) -> Figure:
    """Write a picture, whole or not at all; no path writes nothing.

    Args:
        figure (Figure): The picture.
        path (str | PathLike, optional): ``.png`` or ``.svg`` in a folder that
            exists. An SVG takes its colours from the page that it is in (see
            ``VARIABLES``) and has no background.
        dpi (int): Dots per inch of a PNG.
    """
    if path is None:
        return figure
    path = os.fspath(path)
    if path.endswith('.svg'):
        write_text(path, _svg(figure, os.path.basename(path)[:-4]))
    else:
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format='png', dpi=dpi, facecolor=PAPER)
    return figure


@styled()
def figure_pixels(figure: Figure, dpi: int = 150) -> np.ndarray:
    """A picture as RGB pixels (H, W, 3), uint8, with so many dots per inch."""
    figure.set_dpi(dpi)
    figure.set_facecolor(PAPER)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()


def _svg(figure: Figure, name: str) -> str:
    """The picture as SVG; ``name`` makes its identifiers its own."""
    file = io.StringIO()
    figure.savefig(
        file, format='svg', facecolor='none', metadata=dict(Date=None))
    text = re.sub(r'((?:id|href)="#?|url\(#)', rf'\1{name}-', file.getvalue())
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f'var({variable}, {colour})')
    return text
