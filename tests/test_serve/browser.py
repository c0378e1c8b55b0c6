# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A headless Chromium, steered by its debugging protocol."""
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

from .clients import free_port

FLAGS = ('--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run',
         '--disable-background-networking', '--disable-dev-shm-usage',
         '--use-fake-device-for-media-stream',
         '--use-fake-ui-for-media-stream', '--window-size=1000,800')


def find_browser():
    """A Chromium or Chrome; None without any."""
    return next(
        filter(
            None,
            map(shutil.which,
                ('chromium', 'chromium-browser', 'google-chrome'))), None)


class Page:
    """A page that is open.

    Attributes:
        events (list[dict]): What the browser told meanwhile.
    """

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self.events = []

    def send(self, method, **params):
        """Call a method of the protocol; its result."""
        number = next(self._numbers)
        self._socket.send(
            json.dumps(dict(id=number, method=method, params=params)))
        while True:
            answer = json.loads(self._socket.recv(timeout=30))
            if answer.get('id') == number:
                assert 'error' not in answer, answer
                return answer['result']
            self.events.append(answer)

    def become_a_phone(self):
        """Show the page on a narrow screen."""
        self.send(
            'Emulation.setDeviceMetricsOverride',
            width=360,
            height=700,
            deviceScaleFactor=2,
            mobile=True)

    def grounds(self):
        """Colours of the page's ground, as it is and where dark is preferred,
        which it is from now on."""
        ground = 'getComputedStyle(document.body).backgroundColor'
        light = self.run(ground)
        self.send(
            'Emulation.setEmulatedMedia',
            features=[dict(name='prefers-color-scheme', value='dark')])
        return light, self.run(ground)

    def run(self, code):
        """The value of an expression of JavaScript."""
        answer = self.send(
            'Runtime.evaluate',
            expression=code,
            awaitPromise=True,
            returnByValue=True)
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def wait(self, code, seconds=20):
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(code):
            assert time.monotonic() < end, (
                code, self.run('document.body.innerText'))
            time.sleep(0.05)

    def choose(self, selector, *files):
        """Choose files in an input."""
        root = self.send('DOM.getDocument')['root']['nodeId']
        node = self.send('DOM.querySelector', nodeId=root, selector=selector)
        self.send(
            'DOM.setFileInputFiles',
            files=list(map(str, files)),
            nodeId=node['nodeId'])

    def tab(self):
        """Press the tabulator key."""
        for kind in ('keyDown', 'keyUp'):
            self.send(
                'Input.dispatchKeyEvent',
                type=kind,
                key='Tab',
                code='Tab',
                windowsVirtualKeyCode=9)

    def picture(self, path):
        """Write what is seen to a PNG file."""
        content = self.send('Page.captureScreenshot')['data']
        path.write_bytes(base64.b64decode(content))


@contextlib.contextmanager
def browsing(address):
    """Open an address in a browser of its own."""
    from websockets.sync.client import connect
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen([
            find_browser(), *FLAGS, f'--user-data-dir={profile}',
            f'--remote-debugging-port={port}', 'about:blank'
        ],
                                   stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        try:
            with connect(
                    _find_page(port), max_size=None,
                    open_timeout=30) as socket:
                page = Page(socket)
                page.send('Network.enable')
                page.send('Page.navigate', url=address)
                page.wait(f'location.href.startsWith("{address}") && '
                          f'document.readyState == "complete"')
                yield page
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def _find_page(port):
    """Where the browser takes commands for its page."""
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(
                    f'http://127.0.0.1:{port}/json', timeout=5) as answer:
                for entry in json.load(answer):
                    if entry['type'] == 'page':
                        return entry['webSocketDebuggerUrl']
        assert time.monotonic() < end
        time.sleep(0.2)
