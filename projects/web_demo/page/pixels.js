// Copyright (c) mmdynperceiver contributors. All rights reserved.
// From an image to normalised pixels, as mmdynperceiver/deploy/preprocessing.py
// makes them where it resizes with Pillow. Pixels are
// {data: Uint8ClampedArray (H * W * 3), height, width}, RGB.

// Pillow's filters: how far each reaches, and its weight at a distance.
const sinc = x => x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
const cubic = x => x < 1 ? (1.5 * x - 2.5) * x * x + 1
  : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
const FILTERS = {
  box: [0.5, x => x > -0.5 && x <= 0.5 ? 1 : 0],
  bilinear: [1, x => Math.max(0, 1 - Math.abs(x))],
  hamming: [1, x => Math.abs(x) >= 1 ? 0
    : sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x))],
  bicubic: [2, x => cubic(Math.abs(x))],
  lanczos: [3, x => x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0],
};
// Weights are whole numbers of so many bits behind the point, as Pillow's.
const BITS = 22;

/** Python's round: halves go to the even number. */
function roundEven(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2 !== 0 ? 1 : 0) : Math.round(value);
}

/** For each new place the first old one, and the weights from there on. */
function weights(from, to, [reach, filter]) {
  const scale = from / to, wide = Math.max(scale, 1), support = reach * wide;
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const found = [];
    for (let x = first; x < end; x++) found.push(filter((x - centre + 0.5) / wide));
    const total = found.reduce((sum, w) => sum + w, 0);
    return {
      first,
      whole: found.map(w => {
        const value = w / total * 2 ** BITS;
        return Math.trunc(value + (value < 0 ? -0.5 : 0.5));
      }),
    };
  });
}

/** Resize along one axis; `step` and `line` are distances in the old data. */
function resample(pixels, to, filter, alongWidth) {
  const { data, height, width } = pixels;
  const plan = weights(alongWidth ? width : height, to, filter);
  const made = alongWidth ? { height, width: to } : { height: to, width };
  const out = new Uint8ClampedArray(made.height * made.width * 3);
  const step = alongWidth ? 3 : 3 * width;
  for (let y = 0, at = 0; y < made.height; y++)
    for (let x = 0; x < made.width; x++) {
      const { first, whole } = plan[alongWidth ? x : y];
      const start = alongWidth ? 3 * (y * width + first) : 3 * (first * width + x);
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (BITS - 1);
        for (let k = 0; k < whole.length; k++)
          sum += data[start + channel + k * step] * whole[k];
        out[at++] = Math.floor(sum / 2 ** BITS);
      }
    }
  return { data: out, ...made };
}

function nearest({ data, height, width }, newHeight, newWidth) {
  const out = new Uint8ClampedArray(newHeight * newWidth * 3);
  for (let y = 0, at = 0; y < newHeight; y++)
    for (let x = 0; x < newWidth; x++) {
      const row = Math.floor((y + 0.5) * (height / newHeight));
      const column = Math.floor((x + 0.5) * (width / newWidth));
      for (let channel = 0; channel < 3; channel++)
        out[at++] = data[3 * (row * width + column) + channel];
    }
  return { data: out, height: newHeight, width: newWidth };
}

/** Resize as Pillow does. */
export function resize(pixels, [height, width], interpolation) {
  if (interpolation === 'nearest') return nearest(pixels, height, width);
  const filter = FILTERS[interpolation];
  if (width !== pixels.width) pixels = resample(pixels, width, filter, true);
  if (height !== pixels.height) pixels = resample(pixels, height, filter, false);
  return pixels;
}

function resizeEdge(pixels, { size, edge, interpolation }) {
  const { height, width } = pixels;
  const byWidth = { width: true, height: false, short: width < height,
    long: width > height }[edge];
  const target = byWidth ? [Math.trunc(size * height / width), size]
    : [size, Math.trunc(size * width / height)];
  return resize(pixels, target, interpolation);
}

/** Cut out the centre; what is smaller stays. */
export function centerCrop({ data, height, width }, [newHeight, newWidth]) {
  const top = Math.max(0, roundEven((height - newHeight) / 2));
  const left = Math.max(0, roundEven((width - newWidth) / 2));
  const rows = Math.min(newHeight, height), columns = Math.min(newWidth, width);
  const out = new Uint8ClampedArray(rows * columns * 3);
  for (let y = 0; y < rows; y++) {
    const start = 3 * ((top + y) * width + left);
    out.set(data.subarray(start, start + 3 * columns), 3 * columns * y);
  }
  return { data: out, height: rows, width: columns };
}

const STEPS = {
  resize: (pixels, step) => resize(pixels, step.size, step.interpolation),
  resize_edge: resizeEdge,
  center_crop: (pixels, step) => centerCrop(pixels, step.size),
};

/** Cut to the shape that the network takes, and resize: for pipelines that
 * expect images of its size. */
function fit(pixels, [height, width]) {
  const scale = Math.min(pixels.height / height, pixels.width / width);
  const cut = [height, width].map(edge => Math.max(1, Math.round(edge * scale)));
  return resize(centerCrop(pixels, cut), [height, width], 'bilinear');
}

/**
 * Prepare pixels by the preprocessing of a manifest.
 *
 * @returns {{values: Float32Array, fitted: boolean}} Normalised pixels
 *   (3 * H * W), and whether they had to be made the network's size.
 */
export function prepare(pixels, settings) {
  for (const step of settings.steps || []) pixels = STEPS[step.kind](pixels, step);
  const [height, width] = settings.size;
  const fitted = pixels.height !== height || pixels.width !== width;
  if (fitted) pixels = fit(pixels, settings.size);
  const order = settings.channels === 'bgr' ? [2, 1, 0] : [0, 1, 2];
  const size = height * width, values = new Float32Array(3 * size);
  order.forEach((source, channel) => {
    const mean = Math.fround(settings.mean[channel]);
    const std = Math.fround(settings.std[channel]);
    for (let k = 0; k < size; k++)
      values[channel * size + k] =
        Math.fround(pixels.data[3 * k + source] - mean) / std;
  });
  return { values, fitted };
}

/** RGB pixels of something that a canvas can draw. */
export function readPixels(source, width, height) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(source, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8ClampedArray(3 * width * height);
  for (let k = 0; k < width * height; k++)
    for (let channel = 0; channel < 3; channel++)
      data[3 * k + channel] = rgba[4 * k + channel];
  return { data, height, width };
}

/** RGB pixels of a file, turned as its EXIF data say. */
export async function decode(blob) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: 'from-image',
    premultiplyAlpha: 'none', colorSpaceConversion: 'none' });
  try { return readPixels(bitmap, bitmap.width, bitmap.height); }
  finally { bitmap.close(); }
}
