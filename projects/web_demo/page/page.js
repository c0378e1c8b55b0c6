// Copyright (c) mmdynperceiver contributors. All rights reserved.

import { Network } from './network.js';
import { decode, prepare, readPixels } from './pixels.js';
import { argmax, softmax } from './policy.js';

const MOST = 24, CAMERA_MS = 300;
const $ = id => document.getElementById(id);
const percent = share => `${Math.round(100 * share)} %`;
const millions = macs => macs >= 1e9 ? `${(macs / 1e9).toFixed(2)} G`
  : `${(macs / 1e6).toFixed(1)} M`;
const colour = exit => `var(--e${Math.min(exit, 3)})`;

let network, policy, stream = null, cards = [];
// One image after the other: a session runs one thing at a time.
let queue = Promise.resolve();
const inTurn = work => {
  const done = queue.then(work);
  queue = done.catch(() => {});
  return done;
};

function add(parent, tag, text, style = {}) {
  const part = document.createElement(tag);
  if (text) part.textContent = text;
  Object.assign(part.style, style);
  parent.append(part);
  return part;
}

/** What an exit said, in words. */
function words({ confidence, threshold, leaves }, exit) {
  const sure = `exit ${exit}: ${confidence.toFixed(3)} sure`;
  if (threshold === null) return `${sure}, ${leaves ? 'the last one' : 'goes on'}`;
  return `${sure}, ${leaves ? 'leaves' : `needs ${threshold > 1 ? 'more than 1'
    : threshold.toFixed(3)}, goes on`}`;
}

/** Write the outcome into a card. */
function show(card) {
  const { outcome, body } = card, { macs_per_exit: macs, classes } = network.manifest;
  const whole = macs[macs.length - 1], label = argmax(outcome.logits);
  body.replaceChildren();
  add(body, 'strong', classes[label]);
  add(body, 'small', `score ${softmax(outcome.logits)[label].toFixed(3)}, ` +
    `${outcome.milliseconds.toFixed(1)} ms`);
  const bar = add(body, 'div');
  bar.className = 'bar';
  bar.setAttribute('role', 'img');
  bar.setAttribute('aria-label', `${percent(outcome.macs / whole)} of the work`);
  macs.forEach((cost, k) => add(bar, 'i', '', {
    flexGrow: cost - (macs[k - 1] || 0),
    ...k <= outcome.exit && { background: colour(k) } }));
  outcome.decisions.forEach((decision, exit) => add(body, 'small',
    words(decision, exit), { color: colour(exit) }));
  add(body, 'small', `${millions(outcome.macs)} MACs, ${percent(outcome.macs / whole)} ` +
    'of the whole network');
  if (card.fitted) add(body, 'small', 'cut and resized to fit the network');
  if (card.name) add(body, 'small', card.name);
}

/** The figures over all images, those of the camera apart. */
function sumUp() {
  const counted = cards.filter(card => card.name), { macs_per_exit: macs } =
    network.manifest, whole = macs[macs.length - 1];
  $('figures').hidden = !counted.length;
  if (!counted.length) return;
  const mean = counted.reduce((sum, card) => sum + card.outcome.macs, 0) / counted.length;
  $('count').textContent = counted.length;
  $('spent').textContent = millions(mean);
  $('saved').textContent = percent(1 - mean / whole);
  $('key').replaceChildren(...macs.map((_, exit) => {
    const part = document.createElement('span');
    add(part, 'i', '', { background: colour(exit) });
    const left = counted.filter(card => card.outcome.exit === exit).length;
    part.append(`${exit}: ${percent(left / counted.length)}`);
    part.setAttribute('aria-label', `exit ${exit}`);
    return part;
  }));
}

/** Run an image and show it, in a new card or in one that is there. */
async function classify(pixels, picture, name, old = null) {
  const { values, fitted } = prepare(pixels, network.manifest.preprocessing);
  const outcome = await network.predict(values, policy);
  let card = old;
  if (!card) {
    const item = document.createElement('li'), image = add(item, 'img');
    card = { item, image, body: add(item, 'div'), name };
    image.alt = name || 'camera';
    cards.unshift(card);
    $('results').prepend(item);
  }
  if (card.image.src.startsWith('blob:')) URL.revokeObjectURL(card.image.src);
  card.image.src = picture;
  Object.assign(card, { values, outcome, fitted });
  show(card);
  for (const gone of cards.splice(MOST)) {
    URL.revokeObjectURL(gone.image.src);
    gone.item.remove();
  }
  sumUp();
  return card;
}

async function send(files) {
  const wrong = [];
  for (const file of files)
    await inTurn(async () => {
      let pixels;
      try { pixels = await decode(file); }
      catch (error) { throw new Error('the browser finds no image in it'); }
      await classify(pixels, URL.createObjectURL(file), file.name);
    }).catch(error => wrong.push(`${file.name}: ${error.message}`));
  $('message').textContent = wrong.join(' ');
}

$('files').onchange = event => { send([...event.target.files]); event.target.value = ''; };
for (const kind of ['dragover', 'dragleave', 'drop'])
  $('drop').addEventListener(kind, event => {
    event.preventDefault();
    $('drop').classList.toggle('over', kind === 'dragover');
    if (kind === 'drop' && network) send([...event.dataTransfer.files]);
  });

$('care').oninput = () => {
  policy = network.policy.withCare(+$('care').value);
  inTurn(async () => {
    for (const card of cards) {
      card.outcome = await network.predict(card.values, policy);
      show(card);
    }
    sumUp();
  }).catch(error => { $('message').textContent = error.message; });
};

async function film() {
  let card = null;
  while (stream) {
    const video = $('video'), { videoWidth: width, videoHeight: height } = video;
    try {
      if (width) card = await inTurn(() => {
        const canvas = document.createElement('canvas');
        Object.assign(canvas, { width, height });
        canvas.getContext('2d').drawImage(video, 0, 0);
        return classify(readPixels(video, width, height),
          canvas.toDataURL('image/jpeg', .8), '', cards.includes(card) ? card : null);
      });
    } catch (error) { $('message').textContent = error.message; }
    await new Promise(done => setTimeout(done, CAMERA_MS));
  }
  if (card) {
    cards = cards.filter(other => other !== card);
    card.item.remove();
  }
}

$('camera').onclick = async () => {
  if (stream) {
    stream.getTracks().forEach(track => track.stop());
    stream = null;
  } else {
    try {
      stream = await navigator.mediaDevices.getUserMedia(
        { video: { facingMode: 'environment' } });
      $('video').srcObject = stream;
      await $('video').play();
      film();
    } catch (error) {
      stream = null;
      $('message').textContent = 'There is no camera that this page may use.';
    }
  }
  $('video').hidden = !stream;
  $('camera').setAttribute('aria-pressed', String(!!stream));
  $('camera').textContent = stream ? 'Stop the camera' : 'Use the camera';
};

async function showSamples() {
  const response = await fetch('samples/samples.json');
  const names = response.ok ? await response.json() : [];
  for (const name of names) {
    const button = add($('samples'), 'button'), image = add(button, 'img');
    button.type = 'button';
    image.src = `samples/${encodeURIComponent(name)}`;
    image.alt = name;
    button.onclick = async () => {
      const blob = await (await fetch(image.src)).blob();
      send([new File([blob], name)]);
    };
  }
  $('samples').hidden = !names.length;
}

try {
  network = await Network.load('model/', (done, all) => {
    $('about').textContent = `Loading part ${done + 1} of ${all}.`;
  });
  policy = network.policy;
  // For tests, and for whoever looks behind the page.
  window.demo = { network, decode, prepare };
  const { classes, policy: { thresholds } } = network.manifest;
  $('about').textContent = `${classes.length} classes, ${network.numExits} exits, ` +
    `${network.height}x${network.width} pixels. ` + (thresholds
    ? 'An image leaves at the first exit that is sure enough; what lies behind is not run.'
    : 'Exported without thresholds: every image takes the whole network.') +
    ' Your images stay in this browser.';
  $('careful').hidden = !thresholds;
  $('files').disabled = $('camera').disabled = false;
  await showSamples();
} catch (error) {
  $('about').textContent = '';
  $('message').textContent = `The network cannot be opened: ${error.message}`;
}
