// Copyright (c) mmdynperceiver contributors. All rights reserved.
// Who leaves at an exit, as mmdynperceiver/deploy/policy.py decides for one
// image: in single precision, with the same criteria.

const single = Math.fround;

/** Probabilities of logits, a Float32Array (K). */
export function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, x => single(Math.exp(single(x - largest))));
  const total = single(powers.reduce((sum, x) => sum + x, 0));
  return Float32Array.from(powers, x => x / total);
}

/** Index of the largest number, the first of equal ones. */
export function argmax(values) {
  let best = 0;
  for (let k = 1; k < values.length; k++) if (values[k] > values[best]) best = k;
  return best;
}

/** How sure an exit is, in [0, 1], by 'max_prob', 'margin' or 'entropy'. */
export function confidence(logits, criterion = 'max_prob', temperature = 1) {
  const divided = temperature === 1 ? logits
    : logits.map(x => x / single(temperature));
  const probabilities = softmax(divided);
  if (criterion === 'max_prob') return Math.max(...probabilities);
  if (criterion === 'margin') {
    const [second, first] = [...probabilities].sort((a, b) => a - b).slice(-2);
    return single(first - second);
  }
  if (criterion !== 'entropy') throw new Error(`unknown criterion ${criterion}`);
  let entropy = 0;
  for (const p of probabilities) if (p > 0) entropy -= p * Math.log(p);
  return Math.min(1, Math.max(0, single(1 - entropy / Math.log(logits.length))));
}

export class Policy {
  /** From the policy of a manifest and the number of exits. */
  constructor({ thresholds, criterion = 'max_prob', temperature = null }, numExits) {
    this.thresholds = thresholds;
    this.criterion = criterion;
    this.temperature = typeof temperature === 'number'
      ? Array(numExits).fill(temperature) : temperature;
    this.numExits = numExits;
  }

  /**
   * Decide at an exit.
   *
   * @param {number} index - The exit, from 0.
   * @param {Float32Array} logits - What it answers (K).
   * @param {?{label: number, run: number}} memory - What the exit before
   *   handed on.
   * @returns {{confidence, threshold, leaves, memory}} The threshold is null
   *   at the last exit, and where there are none.
   */
  decide(index, logits, memory = null) {
    let conf;
    if (this.criterion === 'patience') {
      const label = argmax(logits);
      memory = { label, run: memory && memory.label === label ? memory.run + 1 : 1 };
      conf = single(memory.run / this.numExits);
    } else {
      conf = confidence(logits, this.criterion,
        this.temperature ? this.temperature[index] : 1);
    }
    const last = index === this.numExits - 1;
    const threshold = last || !this.thresholds ? null : this.thresholds[index];
    const leaves = last || (threshold !== null && conf >= single(threshold));
    return { confidence: conf, threshold, leaves, memory };
  }

  /**
   * The same policy, more careful or less.
   *
   * @param {number} care - From -1, all leave at the first exit, over 0, as
   *   exported, to 1, all run to the last one.
   */
  withCare(care) {
    const changed = Object.assign(Object.create(Policy.prototype), this);
    changed.thresholds = this.thresholds && this.thresholds.map(t =>
      care < 0 ? t * (1 + care) : care < 1 ? t + Math.max(0, 1 - t) * care : 2);
    return changed;
  }
}
