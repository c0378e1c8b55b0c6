# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The pages of docs/ become a site without a warning."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from documented_commands import ROOT

pytest.importorskip('sphinx')
ADDRESS = 'https://example.org/us/mmdynperceiver'


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    result = subprocess.run([
        sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', 'docs',
        str(folder / 'html'), '-d',
        str(folder / 'doctrees')
    ],
                            cwd=ROOT,
                            env=dict(
                                os.environ,
                                READTHEDOCS_GIT_CLONE_URL=f'{ADDRESS}.git'),
                            capture_output=True,
                            text=True,
                            timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / 'html'


def test_every_page_is_there_and_can_be_reached(site):
    pages = {
        path.relative_to(ROOT / 'docs').with_suffix('.html')
        for path in (ROOT / 'docs').rglob('*.md')
    }
    index = (site / 'index.html').read_text()
    for page in pages - {Path('index.html')}:
        assert (site / page).exists()
        assert page.parts[0] == 'zoo' or f'href="{page}"' in index, page


def test_links_go_to_pages_or_to_the_repository(site):
    zoo = (site / 'model-zoo.html').read_text()
    assert 'href="zoo/imagenet.html"' in zoo
    detection = (site / 'detection.html').read_text()
    assert 'href="zoo/coco.html"' in detection
    links = re.findall(rf'href="{ADDRESS}/blob/main/([^"#]+)',
                       (site / 'zoo/cifar.html').read_text())
    assert len(links) > 5
    assert all((ROOT / link).exists() for link in links)


def test_the_interface_is_described(site):
    api = (site / 'api.html').read_text()
    for name in ('core.DynPerceiver', 'core.load_official', 'deploy.Runner'):
        assert f'id="mmdynperceiver.{name}"' in api


def test_the_notebook_is_a_page_with_its_pictures(site):
    page = (site / 'notebooks/own_images.html').read_text()
    assert 'src="data:image/png;base64,' in page
    assert 'mmdynperceiver.fit' in re.sub('<[^>]+>', '', page)
    link = re.search(r'href="../(_downloads/[^"]+own_images.ipynb)"', page)
    assert (site / link[1]).exists()


def test_one_version():
    from mmdynperceiver import __version__
    cited = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert cited['version'] == __version__
    assert f'## {__version__}\n' in (ROOT / 'CHANGELOG.md').read_text()
