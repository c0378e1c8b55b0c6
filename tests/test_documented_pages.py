# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the pages tell users to type is run, page by page, reduced.

Whatever is not run is in ``documented_rules``, with the reason.
"""
import re

import pytest
from documented_commands import ROOT, find_steps
from documented_places import Place, make_demo
from documented_python import (CODE_NOT_RUN, code_not_run, run_block,
                               starting_names)
from documented_rules import (ELSEWHERE, NOT_RUN, OTHER_PROGRAMS, missing,
                              not_run, reduce_words)

for module in ('mmpretrain', 'onnxruntime', 'openvino', 'safetensors',
               'uvicorn', 'sklearn'):
    pytest.importorskip(module)
STEPS = find_steps()
LINES = [step for step in STEPS if step.words]
RUN = [
    step for step in STEPS if step.code and not code_not_run(step.code)
    or step.is_ours and not not_run(step.text)
]


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """What `make demo` leaves, and its network exported."""
    return make_demo(tmp_path_factory.mktemp('demo'))


@pytest.mark.parametrize('page',
                         sorted({step.page
                                 for step in RUN} - set(ELSEWHERE)))
def test_page_runs(page, demo, tmp_path, monkeypatch):
    """In the page's order: what one command writes serves the next."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    place, names, lacking = Place(tmp_path, demo), starting_names(), set()
    for step in STEPS:
        if step.page != page:
            continue
        if step.words[:1] == ['export']:
            name, _, value = step.words[1].partition('=')
            monkeypatch.setenv(name, value)
            place.provide(value)
        if step not in RUN:
            continue
        if missing(step.text + step.code):
            lacking.add(missing(step.text + step.code))
        elif step.code:
            run_block(place, step, names)
        else:
            words = place.prepare(reduce_words(step.words, page))
            output, code = place.run(words)
            assert code == 0, f'{" ".join(words)}\n{output[-3000:]}\n{code}'
    if lacking:
        pytest.skip(f'all but what needs {", ".join(sorted(lacking))}')


def test_variables_are_known():
    assert not [
        line
        for line in LINES if re.search(r'\$\w', line.text) and line.is_ours
    ]


def test_reasons_are_needed():
    for pattern in NOT_RUN:
        assert any(re.search(pattern, line.text) for line in LINES), pattern
    assert set(ELSEWHERE) < {step.page for step in RUN}
    for pattern in CODE_NOT_RUN:
        assert any(re.search(pattern, step.code) for step in STEPS), pattern
    programs = {line.words[0] for line in LINES} - {'python'}
    assert programs == set(OTHER_PROGRAMS)


def test_targets_extras_and_paths_are_there():
    """Of commands that are not run."""
    targets = (ROOT / 'Makefile').read_text()
    extras = (ROOT / 'setup.py').read_text()
    routes = (ROOT / 'mmdynperceiver/serve/http_app.py').read_text()
    for program, *words in (line.words for line in LINES):
        text = ' '.join(words)
        if program == 'make':
            assert re.search(rf'^({words[0]}\b|.* {words[0]}\b.*):', targets,
                             re.MULTILINE), text
        elif program == 'pip':
            for names in re.findall(r'(?:\.|mmdynperceiver)\[(.*?)\]', text):
                for name in names.split(','):
                    assert f'{name}' in extras, text
        elif program == 'curl':
            path = re.search(r'127\.0\.0\.1:8000([^? ]+)', text).group(1)
            assert f"'{path}'" in routes, text
        elif program == 'serve':
            assert (ROOT / words[-1]).is_file(), text
