# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Style sheet of the report's page."""
from .figure import VARIABLES

__all__ = ['STYLE']

_LIGHT = {
    **{
        variable: colour
        for colour, variable in VARIABLES.items()
    },
    '--paper': '#f6f8fa',
    '--mark': '#0062a0',
    '--right': '#00664a',
    '--wrong': '#b02a00',
}
_DARK = {
    '--ink': '#e6edf3',
    '--soft': '#9da7b3',
    '--paper': '#0d1117',
    '--card': '#161b22',
    '--line': '#30363d',
    '--mark': '#56b4e9',
    '--right': '#3fc795',
    '--wrong': '#ff8a65',
    # Those that are too dark on a dark card.
    '--c0': '#3d9be0',
    '--c2': '#1fb98a',
    '--c6': '#c65b93',
    '--c8': '#8f7fd0',
    '--c9': '#b08d68',
    '--c10': '#9a9a9a',
}


def _variables(values: dict) -> str:
    """Declarations of a style sheet."""
    return ' '.join(f'{name}: {value};' for name, value in values.items())


STYLE = '''
:root { color-scheme: light dark; ''' + _variables(_LIGHT) + ''' }
@media (prefers-color-scheme: dark) {
  :root { ''' + _variables(_DARK) + ''' } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 1160px; margin: 0 auto;
  padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem;
  overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: .75rem 0 .25rem; }
p { margin: .5rem 0; max-width: 75ch; overflow-wrap: anywhere; }
.lead, footer, figcaption { color: var(--soft); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0;
  list-style: none; }
a { color: var(--mark); }
section { background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 1rem; margin: 1rem 0; }
.figures { display: grid; gap: .75rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
.figures div { background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: .75rem 1rem; }
.figures dt { color: var(--soft); }
.figures dd { margin: 0; font-size: .88rem; }
.figures .value { font-size: 1.7rem; font-weight: 650; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; }
.plot svg { display: block; width: 100%; height: auto; margin: 0 auto; }
.plot .narrow { display: none; }
figcaption { font-size: .9rem; margin-top: .4rem; max-width: 75ch; }
.cells { display: grid; gap: .5rem; padding: 0; margin: .25rem 0 1rem;
  list-style: none; align-items: end; }
.cells li { min-width: 0; }
.cells img { display: block; width: 100%; height: auto; border-radius: 3px; }
.cells span { display: block; font-size: .82rem; line-height: 1.35;
  overflow-wrap: anywhere; }
.cells.images { align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); }
.cells.clips { align-items: start;
  grid-template-columns: repeat(4, minmax(15rem, 1fr)); overflow-x: auto; }
.cells.maps { grid-auto-flow: column; overflow-x: auto;
  grid-auto-columns: minmax(6.5rem, 11rem); }
.cells .leaves img { outline: 4px solid var(--c2); outline-offset: -4px; }
.right span { color: var(--right); }
.wrong span { color: var(--wrong); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  text-align: right; white-space: nowrap; }
td { white-space: nowrap; }
thead th { border-bottom: 2px solid var(--line); white-space: normal;
  vertical-align: bottom; }
thead .groups th { border-bottom: 0; text-align: center; }
th:first-child, td:first-child { text-align: left; }
tbody th { white-space: normal; min-width: 8rem; font-weight: 500;
  overflow-wrap: break-word; }
th:first-child { position: sticky; left: 0; background: var(--card); }
.best { font-weight: 700; color: var(--mark); }
.thresholds td { font-weight: 650; }
footer { padding: 1rem 1rem 2rem; font-size: .9rem; }
@media (max-width: 600px) {
  section { padding: .75rem; }
  h1 { font-size: 1.35rem; }
  .figures { grid-template-columns: 1fr 1fr; gap: .5rem; }
  .figures div { padding: .5rem .6rem; }
  .figures .value { font-size: 1.3rem; }
  .figures dd { font-size: .8rem; }
  .cells.images {
    grid-template-columns: repeat(auto-fill, minmax(4.6rem, 1fr)); }
  table { font-size: .85rem; }
  th, td { padding: .3rem .4rem; }
  tbody th { min-width: 6rem; }
  .thresholds th, .thresholds td { padding: .3rem .2rem; }
  .thresholds tbody th { min-width: 4.5rem; } }
/* Wide plots would have print of less than 11 pixels. */
@media (max-width: 850px) {
  .plot .wide { display: none; }
  .plot .narrow { display: block; } }
'''
