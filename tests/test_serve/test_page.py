# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The page in a browser: images, webcam, errors, keyboard, phone, dark."""
import numpy as np
import pytest

from .browser import browsing, find_browser
from .clients import encoded
from .test_http_app import start  # noqa: F401  (a fixture)

pytest.importorskip('websockets', reason='the extra "serve" is not installed')
if find_browser() is None:
    pytest.skip('there is no Chromium', allow_module_level=True)

COUNT = 'document.querySelectorAll("#results li").length'
MESSAGE = 'document.getElementById("message").textContent'


@pytest.fixture
def files(tmp_path):
    """An image, and a file that is none."""
    good, bad = tmp_path / 'good.png', tmp_path / 'bad.png'
    good.write_bytes(
        encoded(np.random.default_rng(7).integers(0, 255, (60, 50, 3))))
    bad.write_bytes(b'no image')
    return good, bad


def test_images_errors_and_figures(start, files):  # noqa: F811
    with start() as (port, service, segments), \
            browsing(f'http://127.0.0.1:{port}/') as page:
        page.wait('document.getElementById("about").textContent.includes('
                  '"5 classes, 4 exits, 48x48 pixels")')
        page.choose('#files', *files)
        page.wait(f'{COUNT} == 1 && {MESSAGE} != ""')
        text = page.run('document.querySelector("#results li").innerText')
        runner = service.runner
        name = runner.manifest.classes[runner.all_exits(
            runner.preprocessing.batch([files[0]]))[3].argmax()]
        assert text.startswith(name) and 'exit 3' in text
        assert 'good.png' in text and '(100%)' in text
        assert page.run(
            'document.querySelector("#results img").naturalWidth') == 50
        assert 'bad.png: image 0' in page.run(MESSAGE)
        assert 'finds no image' in page.run(MESSAGE)
        page.wait('document.querySelectorAll("#chart rect").length > 0')
        assert 'exit 3: 100%' in page.run(
            'document.getElementById("key").innerText')
        assert 'ms' in page.run('document.getElementById("p99").textContent')
        page.choose('#files', files[0])
        page.wait(f'{COUNT} == 2 && {MESSAGE} == ""')

        def fail(index, size):
            raise RuntimeError

        segments.before = fail
        page.choose('#files', files[0])
        page.wait(f'{MESSAGE}.includes("an error of the server")')
        asked = {
            event['params']['request']['url']
            for event in page.events
            if event['method'] == 'Network.requestWillBeSent'
        }
        assert asked and all(
            url.startswith((f'http://127.0.0.1:{port}/', 'blob:', 'data:'))
            for url in asked)


def test_keyboard_phone_dark_webcam_and_token(start):  # noqa: F811
    with start(token='a secret token') as (port, _, _), \
            browsing(f'http://127.0.0.1:{port}/') as page:
        seen = []
        for _ in range(3):
            page.tab()
            seen.append(page.run('document.activeElement.id'))
        assert seen == ['files', 'camera', 'token']
        page.become_a_phone()
        assert page.run('document.scrollingElement.scrollWidth') <= 360
        light, dark = page.grounds()
        assert dark != light
        page.run('document.getElementById("camera").click()')
        page.wait(f'{MESSAGE}.includes("token of this service")')
        page.run('document.getElementById("token").value = "a secret token"')
        page.wait(f'{COUNT} >= 2 && {MESSAGE} == ""')
        page.run('document.getElementById("camera").click()')
        assert page.run('document.getElementById("video").hidden')
