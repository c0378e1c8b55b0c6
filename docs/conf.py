# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Settings of the site: ``sphinx-build -W docs work_dirs/site`` builds it."""
import json
import os
import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from mmdynperceiver import __version__  # noqa: E402

project = 'mmdynperceiver'
author = 'mmdynperceiver contributors'
copyright = f'2026, {author}'
release = __version__

extensions = [
    'myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon',
    'sphinx_copybutton'
]
exclude_patterns = ['_build']
myst_enable_extensions = ['colon_fence']
myst_heading_anchors = 4
highlight_language = 'none'
autodoc_typehints = 'none'
autodoc_member_order = 'bysource'

html_theme = 'furo'
html_title = f'mmdynperceiver {release}'
html_static_path = ['_static']
html_css_files = ['site.css']

# Read the Docs says where the repository is.
REPOSITORY = os.environ.get('READTHEDOCS_GIT_CLONE_URL',
                            '').removesuffix('.git')


def outside(app, docname, target):
    """The file that a page links to, if it is no page of the site."""
    path, _, anchor = target.partition('#')
    here = Path(app.srcdir, docname).parent
    for folder in (here, ROOT / 'configs' / Path(docname).name):
        for suffix in ('', '.md'):
            file = (folder / (path + suffix)).resolve()
            if path and file.exists() and ROOT in file.parents:
                return None if DOCS in file.parents else (file, anchor)
    return None


def link_to_repository(app, doctree):
    """Pages link to configs and scripts by their paths in the repository.

    The READMEs of configs are pages of the zoo. Other files are links where
    the address of the repository is known, and text where it is not.
    """
    docname = app.env.docname
    kinds = (pending_xref, download_reference)
    for node in [n for kind in kinds for n in doctree.findall(kind)]:
        found = outside(app, docname, node.get('reftarget') or '')
        if not found:
            continue
        file, anchor = found
        place = file.relative_to(ROOT).as_posix()
        if file.name == 'README.md' and (DOCS / 'zoo' /
                                         f'{file.parent.name}.md').exists():
            node.replace_self(
                pending_xref(
                    '',
                    *node.children,
                    refdomain='std',
                    reftype='doc',
                    refexplicit=True,
                    refwarn=True,
                    refdoc=docname,
                    reftarget=f'/zoo/{file.parent.name}'))
        elif REPOSITORY:
            kind = 'tree' if file.is_dir() else 'blob'
            uri = f'{REPOSITORY}/{kind}/main/{place}'
            uri += f'#{anchor}' if anchor else ''
            node.replace_self(
                nodes.reference('', '', *node.children, refuri=uri))
        else:
            node.replace_self(nodes.inline('', '', *node.children))


def notebook_as_page(app, docname, source):
    """Notebooks are pages with the outputs that they were saved with."""
    if Path(app.env.doc2path(docname)).suffix != '.ipynb':
        return
    parts = []
    for cell in json.loads(source[0])['cells']:
        text = ''.join(cell['source'])
        code = cell['cell_type'] == 'code'
        parts.append(f'```python\n{text}\n```' if code else text)
        for output in cell.get('outputs', ()):
            image = output.get('data', {}).get('image/png')
            parts.append(
                f'![what the cell draws](data:image/png;base64,{image})'
                if image else '```text\n' + ''.join(output['text']) + '```')
    name = Path(docname).name
    parts.insert(1, f'{{download}}`This page as a notebook <{name}.ipynb>`')
    source[0] = '\n\n'.join(parts) + '\n'


def setup(app):
    """See :mod:`sphinx.application`."""
    app.add_source_suffix('.ipynb', 'markdown')
    app.connect('source-read', notebook_as_page)
    app.connect('doctree-read', link_to_repository)
