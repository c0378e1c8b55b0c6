# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""One HTML page with everything inside: no network, no script."""
import base64
import io
import re
from html import escape
from pathlib import Path
from typing import Any, List, Sequence, Tuple

from PIL import Image

from .style import STYLE

__all__ = [
    'Cell', 'build_page', 'cells_html', 'figures_html', 'paragraph',
    'plot_html', 'section', 'table_html'
]

# A picture, what it shows, its lines of text, and the class of its style.
Cell = Tuple[Any, str, Sequence[str], str]
# Smaller pictures are drawings or icons, which JPEG would blur.
_PHOTO = 96


def paragraph(text: str, kind: str = '') -> str:
    """A paragraph.

    Args:
        text (str): Plain text.
        kind (str): Class of the style. Defaults to ''.
    """
    attribute = f' class="{kind}"' if kind else ''
    return f'<p{attribute}>{escape(text)}</p>'


def figures_html(figures: Sequence[Sequence[str]]) -> str:
    """The figures that a page begins with.

    Args:
        figures (Sequence[Sequence[str]]): Of each its name, its value, and
            lines below it.
    """
    parts = []
    for name, value, *notes in figures:
        below = ''.join(f'<dd>{escape(note)}</dd>' for note in notes)
        parts.append(f'<div><dt>{escape(name)}</dt>'
                     f'<dd class="value">{escape(value)}</dd>{below}</div>')
    return f'<dl class="figures">{"".join(parts)}</dl>'


def plot_html(folder: Path, name: str, alt: str, caption: str) -> str:
    """A plot, once for wide screens and once for narrow ones.

    Args:
        folder (Path): Where its two SVG files are.
        name (str): Their stem.
        alt (str): What it shows, for those who do not see it.
        caption (str): Stands below it.
    """
    parts = []
    for kind, stem in (('wide', name), ('narrow', f'{name}_narrow')):
        text = (folder / f'{stem}.svg').read_text('utf-8')
        # Print of 14 pixels for letters of 10 points, as in the page.
        size = 1.4 * float(re.findall(r'viewBox="0 0 ([\d.]+)', text)[0])
        parts.append(f'<div class="{kind}" style="max-width: {size:.0f}px" '
                     f'role="img" aria-label="{escape(alt)}">'
                     f'{_inline(text)}</div>')
    return (f'<figure class="plot">{"".join(parts)}'
            f'<figcaption>{escape(caption)}</figcaption></figure>')


def _inline(text: str) -> str:
    """An SVG file as a part of a page, without what only a file needs."""
    text = text[text.index('<svg'):]
    text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
    return re.sub(r' xmlns(:\w+)?="[^"]*"', '', text, count=2)


def cells_html(cells: Sequence[Cell], kind: str) -> str:
    """Pictures beside each other, with their text.

    Args:
        cells (Sequence[Cell]): Of each its RGB pixels (H, W, 3), what it
            shows, its lines of text, and the class of its style.
        kind (str): Class of the style: 'images', 'clips' or 'maps'.
    """
    parts = []
    for pixels, alt, lines, style in cells:
        text = ''.join(f'<span>{escape(line)}</span>' for line in lines)
        parts.append(f'<li class="{style}"><img alt="{escape(alt)}" '
                     f'src="{_data(pixels)}">{text}</li>')
    return f'<ul class="cells {kind}" tabindex="0">{"".join(parts)}</ul>'


def _data(pixels: Any) -> str:
    """A picture as an address that holds all its bytes."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    kind = 'JPEG' if min(image.size) >= _PHOTO else 'PNG'
    image.save(file, kind, quality=90)
    data = base64.b64encode(file.getvalue()).decode('ascii')
    return f'data:image/{kind.lower()};base64,{data}'


def table_html(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    best: Sequence[Sequence[int]] = (),
    groups: Sequence[Tuple[str, int]] = ()
) -> str:
    """A table that scrolls inside its box where it is too wide.

    Args:
        caption (str): Names the box for those who hear the page.
        columns (Sequence[str]): Headings.
        rows (Sequence[Sequence[str]]): Cells; the first names the row.
        best (Sequence[Sequence[int]]): Row and column of cells to mark.
            Defaults to none.
        groups (Sequence[tuple[str, int]]): Headings above the columns, and
            how many columns each has. Defaults to none.
    """
    marked = {tuple(cell) for cell in best}
    head = ''.join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    head = f'<tr>{head}</tr>'
    if groups:
        above = ''.join(f'<th scope="colgroup" colspan="{count}">'
                        f'{escape(name)}</th>' for name, count in groups)
        head = f'<tr class="groups">{above}</tr>{head}'
    lines: List[str] = []
    for i, row in enumerate(rows):
        cells = [f'<th scope="row">{escape(row[0])}</th>']
        for j, cell in enumerate(row[1:], 1):
            kind = ' class="best"' if (i, j) in marked else ''
            cells.append(f'<td{kind}>{escape(cell)}</td>')
        lines.append(f'<tr>{"".join(cells)}</tr>')
    return (f'<div class="scroll" role="region" tabindex="0" '
            f'aria-label="{escape(caption)}"><table><thead>{head}</thead>'
            f'<tbody>{"".join(lines)}</tbody></table></div>')


def section(name: str, title: str, parts: Sequence[str]) -> str:
    """A section of the page.

    Args:
        name (str): Its anchor.
        title (str): Its heading.
        parts (Sequence[str]): HTML.
    """
    inside = '\n'.join(parts)
    return (f'<section id="{name}" aria-labelledby="{name}-title">'
            f'<h2 id="{name}-title">{escape(title)}</h2>\n{inside}\n'
            f'</section>')


def build_page(title: str, lead: str, links: Sequence[Sequence[str]],
               sections: Sequence[str], footer: str) -> str:
    """The whole page.

    Args:
        title (str): Its heading.
        lead (str): HTML below it.
        links (Sequence[tuple[str, str]]): Anchor and title of each section.
        sections (Sequence[str]): What :func:`section` returns.
        footer (str): Stands at the end.
    """
    items = ''.join(f'<li><a href="#{name}">{escape(text)}</a></li>'
                    for name, text in links)
    body = '\n'.join(sections)
    return f'''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{lead}
<nav aria-label="Sections"><ul>{items}</ul></nav>
</header>
<main>
{body}
</main>
<footer>{escape(footer)}</footer>
</body>
</html>
'''
