// Copyright (c) mmdynperceiver contributors. All rights reserved.
// An exported network in onnxruntime-web: one segment after the other, until
// the policy lets the image leave.

import * as ort from './onnxruntime/ort.wasm.min.mjs';
import { Policy } from './policy.js';

ort.env.wasm.wasmPaths = new URL('./onnxruntime/', import.meta.url).href;
// More threads need headers that static hosts do not send.
ort.env.wasm.numThreads = 1;

export class Network {
  constructor(manifest, sessions) {
    this.manifest = manifest;
    this.sessions = sessions;
    this.numExits = sessions.length;
    this.policy = new Policy(manifest.policy, this.numExits);
  }

  /** Open an exported folder, and run each segment once. */
  static async load(folder, progress = () => {}) {
    const read = async name => {
      const response = await fetch(folder + name);
      if (!response.ok) throw new Error(`${name} is missing (${response.status})`);
      return response;
    };
    const manifest = await (await read('manifest.json')).json();
    const sessions = [];
    for (const { file } of manifest.segments) {
      progress(sessions.length, manifest.segments.length);
      const graph = new Uint8Array(await (await read(file)).arrayBuffer());
      sessions.push(await ort.InferenceSession.create(graph));
    }
    const network = new Network(manifest, sessions);
    await network.allExits(new Float32Array(3 * network.height * network.width));
    return network;
  }

  get height() { return this.manifest.preprocessing.size[0]; }
  get width() { return this.manifest.preprocessing.size[1]; }

  /** Run one segment on named tensors, which gain what it returns; its logits. */
  async step(index, tensors) {
    const segment = this.manifest.segments[index];
    const feeds = Object.fromEntries(segment.inputs.map(k => [k, tensors[k]]));
    Object.assign(tensors, await this.sessions[index].run(feeds));
    return tensors[segment.outputs[0]].data;
  }

  start(values) {
    const shape = [1, 3, this.height, this.width];
    return { images: new ort.Tensor('float32', values, shape) };
  }

  /**
   * Run an image, normalised pixels (3 * H * W), only until it leaves.
   *
   * @returns {{exit, logits, decisions, macs, milliseconds}}
   */
  async predict(values, policy = this.policy) {
    const begin = performance.now(), tensors = this.start(values), decisions = [];
    for (let index = 0, memory = null; ; index++) {
      const logits = await this.step(index, tensors);
      const decision = policy.decide(index, logits, memory);
      decisions.push(decision);
      if (decision.leaves)
        return { exit: index, logits, decisions,
          macs: this.manifest.macs_per_exit[index],
          milliseconds: performance.now() - begin };
      memory = decision.memory;
    }
  }

  /** The logits of every exit. */
  async allExits(values) {
    const tensors = this.start(values), found = [];
    for (let index = 0; index < this.numExits; index++)
      found.push(await this.step(index, tensors));
    return found;
  }
}
