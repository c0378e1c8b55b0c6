# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The page in a browser answers as the runner does."""
import contextlib
import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from test_serve.browser import browsing, find_browser

from mmdynperceiver.deploy.pipeline import INTERPOLATIONS
from mmdynperceiver.deploy.policy import Policy
from projects.web_demo import build_page

pytest.importorskip('websockets', reason='the extra "serve" is not installed')
if find_browser() is None:
    pytest.skip('there is no Chromium', allow_module_level=True)

CARDS = 'document.querySelectorAll("#results li").length'
MESSAGE = 'document.getElementById("message").textContent'
TEXT = 'document.querySelector("#results li").innerText'


class Quiet(SimpleHTTPRequestHandler):

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def served(folder):
    """A folder by HTTP, as from any static host."""
    server = ThreadingHTTPServer(
        ('127.0.0.1', 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}/'
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope='module')
def opened(calibrated, photos, package, tmp_path_factory):
    """The page, a runner of its network, and the images it offers."""
    folder, runner = calibrated
    out = tmp_path_factory.mktemp('page') / 'page'
    images = sorted(photos.iterdir())
    build_page(folder, out, package, images)
    with served(out) as address, browsing(address) as page:
        page.wait('!document.getElementById("files").disabled', 60)
        yield page, runner, images, address


def in_page(page, image):
    """What the page's own functions say of an image that it offers."""
    return page.run('''(async () => {
        const { network, decode, prepare } = demo;
        const blob = await (await fetch("samples/%s")).blob();
        const { values, fitted } = prepare(await decode(blob),
            network.manifest.preprocessing);
        const runs = network.sessions.map(() => 0);
        network.sessions.forEach((session, k) => session.run = feeds => {
            runs[k]++;
            return Object.getPrototypeOf(session).run.call(session, feeds);
        });
        const out = await network.predict(values), stopped = [...runs];
        const all = await network.allExits(values);
        network.sessions.forEach(session => delete session.run);
        return { fitted, exit: out.exit, macs: out.macs, stopped,
            values: [...values], logits: [...out.logits],
            confidence: out.decisions[out.exit].confidence,
            all: all.map(logits => [...logits]) };
    })()''' % image.name)


def test_answers_as_the_runner(opened):
    page, runner, images, _ = opened
    exits = set()
    # Of transparent images a browser does not tell all colours.
    for image in [path for path in images if 'A.' not in path.name]:
        found = in_page(page, image)
        values = np.float32(found['values']).reshape(1, *runner.image_shape)
        expected = runner.preprocessing.batch([image])
        assert not found['fitted']
        # Decoders of JPEG may round in other ways.
        off = 0 if image.suffix != '.jpg' else 3 / 50
        assert np.abs(values - expected).max() <= off + 1e-6, image.name
        # Its own pixels, where these are others.
        for got, logits in zip(found['all'], runner.all_exits(values)):
            np.testing.assert_allclose([got], logits, rtol=1e-4, atol=1e-4)
        outcome = runner.predict(values)
        index, = outcome.exit_index.tolist()
        assert found['exit'] == index
        assert found['macs'] == runner.manifest.macs_per_exit[index]
        np.testing.assert_allclose(
            found['logits'], outcome.logits[0], rtol=1e-4, atol=1e-4)
        assert found['confidence'] == pytest.approx(
            outcome.confidence[0], abs=1e-5)
        # What lies behind was not run.
        assert found['stopped'] == [int(k <= index) for k in range(4)]
        exits.add(index)
    assert len(exits) > 1


def test_decides_and_resizes_as_here(opened):
    page, address = opened[0], opened[3]
    rng = np.random.default_rng(0)
    logits = (3 * rng.standard_normal((4, 20, 5))).astype(np.float32)
    thresholds, temperature = [.55, .5, .45], [2., 1., .5, 1.]
    for criterion in ('max_prob', 'margin', 'entropy', 'patience'):
        policy = Policy(4, thresholds, criterion,
                        None if criterion == 'patience' else temperature)
        settings = dict(
            thresholds=policy.thresholds,
            criterion=criterion,
            temperature=policy.temperature)
        found = page.run(f'''(async () => {{
            const {{ Policy }} = await import("{address}policy.js");
            const policy = new Policy({json.dumps(settings)}, 4);
            const all = {json.dumps(logits.tolist())};
            return all[0].map((_, row) => {{
                let memory = null;
                return all.map((part, k) => {{
                    const found = policy.decide(k,
                        Float32Array.from(part[row]), memory);
                    memory = found.memory;
                    return [found.confidence, found.leaves];
                }});
            }});
        }})()''')
        memory = None
        for k in range(4):
            conf, leaves, memory = policy.decide(k, logits[k], memory)
            np.testing.assert_allclose([row[k][0] for row in found],
                                       conf,
                                       atol=2e-6)
            assert [row[k][1] for row in found] == leaves.tolist()
    pixels = rng.integers(0, 256, (23, 17, 3)).astype(np.uint8)
    for name in INTERPOLATIONS['pillow']:
        for size in ((11, 9), (40, 17), (31, 30)):
            found = page.run(f'''(async () => {{
                const {{ resize }} = await import("{address}pixels.js");
                const data = Uint8ClampedArray.from({pixels.ravel().tolist()});
                return [...resize({{ data, height: 23, width: 17 }},
                    {list(size)}, "{name}").data];
            }})()''')
            expected = Image.fromarray(pixels).resize(
                size[::-1], Image.Resampling[name.upper()])
            np.testing.assert_array_equal(found, np.ravel(expected))


def test_files_errors_care_phone_dark_and_camera(opened, tmp_path):
    page, runner, images, address = opened
    bad = tmp_path / 'bad.png'
    bad.write_bytes(b'no image')
    page.choose('#files', images[1], bad)
    page.wait(f'{CARDS} == 1 && {MESSAGE} != ""')
    result, = runner([images[1]])
    text = page.run(TEXT)
    assert text.startswith(result.name) and images[1].name in text
    assert f'exit {result.exit_index}: ' in text and 'leaves' in text
    assert 'bad.png: the browser finds no image in it' in page.run(MESSAGE)
    whole = runner.manifest.macs_per_exit
    saved = round(100 * (1 - whole[result.exit_index] / whole[-1]))
    SAVED = 'document.getElementById("saved").textContent'
    assert page.run(SAVED) == f'{saved} %'
    for care, expected in ((-1, 'exit 0:'), (1, 'the last one')):
        page.run(f'''document.getElementById("care").value = {care};
            document.getElementById("care").dispatchEvent(
                new Event("input"))''')
        page.wait(f'{TEXT}.includes("{expected}")')
    assert page.run(SAVED) == '0 %'
    page.run('document.querySelector("#samples button").click()')
    page.wait(f'{CARDS} == 2 && {MESSAGE} == ""')
    page.become_a_phone()
    assert page.run('Math.max(...[...document.querySelectorAll("body *")]'
                    '.map(e => e.getBoundingClientRect().right))') <= 360
    light, dark = page.grounds()
    assert dark != light
    page.run('document.getElementById("camera").click()')
    page.wait(f'{CARDS} == 3 && {MESSAGE} == ""')
    page.run('document.getElementById("camera").click()')
    page.wait(f'{CARDS} == 2')
    asked = {
        event['params']['request']['url']
        for event in page.events
        if event['method'] == 'Network.requestWillBeSent'
    }
    assert asked and all(
        url.startswith((address, 'blob:', 'data:')) for url in asked)
