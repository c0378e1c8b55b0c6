# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""One HTML page with everything inside: no network, no script."""
import base64
from html import escape
from pathlib import Path
from typing import List, Sequence

__all__ = ['build_page', 'figure_html', 'paragraph', 'section', 'table_html']

_STYLE = '''
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a;
  --paper: #f6f8fa; --card: #ffffff; --line: #d0d7de; --mark: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9da7b3; --paper: #0d1117;
    --card: #161b22; --line: #30363d; --mark: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 1080px; margin: 0 auto;
  padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem;
  overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .5rem; }
p { margin: .5rem 0; max-width: 75ch; }
.lead, footer, figcaption { color: var(--soft); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0;
  list-style: none; }
a { color: var(--mark); }
section { background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 1rem; margin: 1rem 0; }
figure { margin: 1rem 0; }
figure .picture { background: #ffffff; border-radius: 6px;
  padding: .5rem; text-align: center; overflow-x: auto; }
figure img { display: block; max-width: 100%; height: auto;
  margin: 0 auto; }
figcaption { font-size: .9rem; margin-top: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem; border-bottom: 1px solid var(--line);
  text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tbody th { white-space: normal; min-width: 8rem; }
thead th { border-bottom: 2px solid var(--line); }
.best { font-weight: 700; color: var(--mark); }
footer { padding: 1rem 1rem 2rem; font-size: .9rem; }
@media (max-width: 600px) {
  section { padding: .75rem; }
  h1 { font-size: 1.35rem; }
  figure .picture { padding: .25rem; }
  /* Their print would be too small: let them scroll in their box. */
  figure img.wide { min-width: 46rem; } }
'''


def paragraph(text: str, kind: str = '') -> str:
    """A paragraph.

    Args:
        text (str): Plain text.
        kind (str): Class of the style. Defaults to ''.
    """
    attribute = f' class="{kind}"' if kind else ''
    return f'<p{attribute}>{escape(text)}</p>'


def figure_html(picture: Path,
                alt: str,
                caption: str,
                wide: bool = False) -> str:
    """A picture with its bytes inside the page.

    Args:
        picture (Path): PNG file.
        alt (str): What it shows, for those who do not see it.
        caption (str): Stands below it.
        wide (bool): Whether it has much beside each other. Defaults to
            False.
    """
    data = base64.b64encode(picture.read_bytes()).decode('ascii')
    kind = ' class="wide"' if wide else ''
    return (f'<figure><div class="picture" tabindex="0"><img{kind} '
            f'alt="{escape(alt)}" src="data:image/png;base64,{data}"></div>'
            f'<figcaption>{escape(caption)}</figcaption></figure>')


def table_html(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    best: Sequence[Sequence[int]] = ()) -> str:
    """A table that scrolls inside its box.

    Args:
        caption (str): Names the box for those who hear the page.
        columns (Sequence[str]): Headings.
        rows (Sequence[Sequence[str]]): Cells; the first names the row.
        best (Sequence[Sequence[int]]): Row and column of cells to mark.
            Defaults to none.
    """
    marked = {tuple(cell) for cell in best}
    head = ''.join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    lines: List[str] = []
    for i, row in enumerate(rows):
        cells = [f'<th scope="row">{escape(row[0])}</th>']
        for j, cell in enumerate(row[1:], 1):
            kind = ' class="best"' if (i, j) in marked else ''
            cells.append(f'<td{kind}>{escape(cell)}</td>')
        lines.append(f'<tr>{"".join(cells)}</tr>')
    return (f'<div class="scroll" role="region" tabindex="0" '
            f'aria-label="{escape(caption)}"><table><thead><tr>{head}</tr>'
            f'</thead><tbody>{"".join(lines)}</tbody></table></div>')


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
        lead (str): One sentence below it.
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
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{paragraph(lead, 'lead')}
<nav aria-label="Sections"><ul>{items}</ul></nav>
</header>
<main>
{body}
</main>
<footer>{escape(footer)}</footer>
</body>
</html>
'''
