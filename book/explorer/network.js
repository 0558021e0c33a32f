"use strict";
// A trained DenseNet that runs here: the forward pass of densenet_lib/densenet.py in evaluation
// mode, one small function for each kind of layer, under the names that the library uses.
//
// Feature maps are {values, channels, height, width}: a Float32Array, map after map, row after row.
// tests/browser/test_network.py compares the answers with PyTorch's.

const EPS = 1e-5; // what batch norm adds to a variance

/** Unpack a checkpoint of weights.js: {...its settings, weights: {name: Float32Array}}. */
function unpack(checkpoint) {
  const bytes = Uint8Array.from(atob(checkpoint.numbers), (letter) => letter.charCodeAt(0));
  const numbers = new Float32Array(bytes.buffer); // little-endian, as every browser's machine is
  const weights = {};
  let begin = 0;
  for (const [name, count] of checkpoint.names) {
    weights[name] = numbers.subarray(begin, (begin += count));
  }
  return { ...checkpoint, weights };
}

/**
 * Run the network on one picture.
 *
 * pixels: bytes, (3, side, side), red first. Returns {logits, last, stages}: last are the maps that
 * the classifier reads; stages lists [name, maps] of what each part has made.
 */
function forward(network, pixels) {
  const {
    weights,
    arguments: { block_config: blocks },
  } = network;
  let maps = stem(normalised(pixels, network), weights);
  const stages = [["stem", maps]];
  blocks.forEach((layers, i) => {
    maps = denseBlock(maps, layers, `features.denseblock${i + 1}`, weights);
    stages.push([`block ${i + 1}`, maps]);
    if (i + 1 < blocks.length) {
      maps = transition(maps, `features.transition${i + 1}`, weights);
      stages.push([`transition ${i + 1}`, maps]);
    }
  });
  const last = relu(norm(maps, "features.norm5", weights));
  stages.push(["last norm and ReLU", last]);
  return { logits: classify(last, weights), last, stages };
}

function stem(maps, weights) {
  maps = convolve(maps, weights["features.conv0.weight"], 3);
  return "features.norm0.weight" in weights ? relu(norm(maps, "features.norm0", weights)) : maps;
}

/** Each layer reads everything made before it, and its new maps go behind the old ones. */
function denseBlock(maps, layers, name, weights) {
  for (let i = 1; i <= layers; i++) {
    maps = concatenate(maps, denseLayer(maps, `${name}.denselayer${i}`, weights));
  }
  return maps;
}

function denseLayer(maps, name, weights) {
  maps = relu(norm(maps, `${name}.norm1`, weights));
  const second = weights[`${name}.conv2.weight`];
  maps = convolve(maps, weights[`${name}.conv1.weight`], second ? 1 : 3);
  if (!second) return maps; // the basic layer has no bottleneck
  return convolve(relu(norm(maps, `${name}.norm2`, weights)), second, 3);
}

function transition(maps, name, weights) {
  maps = relu(norm(maps, `${name}.norm`, weights));
  return averagePool(convolve(maps, weights[`${name}.conv.weight`], 1));
}

// The layers

/** Bytes to the numbers that the network was trained on: (value / 255 - mean) / deviation. */
function normalised(pixels, { mean, std }) {
  const area = pixels.length / 3;
  const side = Math.sqrt(area);
  const values = Float32Array.from(pixels, (byte, i) => {
    const colour = Math.floor(i / area);
    return (byte / 255 - mean[colour]) / std[colour];
  });
  return { values, channels: 3, height: side, width: side };
}

/** Batch norm as it works after training: a scale and a shift for each map. */
function norm(maps, name, weights) {
  const [weight, bias, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map(
    (part) => weights[`${name}.${part}`],
  );
  const area = maps.height * maps.width;
  const values = new Float32Array(maps.values.length);
  for (let c = 0; c < maps.channels; c++) {
    const scale = weight[c] / Math.sqrt(variance[c] + EPS);
    const shift = bias[c] - mean[c] * scale;
    for (let i = c * area; i < (c + 1) * area; i++) values[i] = maps.values[i] * scale + shift;
  }
  return { ...maps, values };
}

function relu(maps) {
  return { ...maps, values: maps.values.map((value) => Math.max(0, value)) };
}

/**
 * A square convolution that keeps the size, without bias. weights: (out, channels, size, size).
 *
 * A frame of zeros makes it one long loop for each weight: the place that a weight looks at lies
 * equally far on from every place that it writes to. What is written in the frame is cut off.
 */
function convolve(maps, weights, size) {
  const { values, channels, height, width } = framed(maps, (size - 1) / 2);
  const out = weights.length / (channels * size * size);
  const made = new Float32Array(out * maps.height * maps.width);
  const sums = new Float32Array(maps.height * width);
  const end = sums.length - (size - 1);
  let next = 0; // the weights are used in the order in which they lie
  for (let o = 0; o < out; o++) {
    sums.fill(0);
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          const weight = weights[next++];
          const from = (c * height + y) * width + x;
          for (let i = 0; i < end; i++) sums[i] += weight * values[from + i];
        }
      }
    }
    for (let y = 0; y < maps.height; y++) {
      const row = sums.subarray(y * width, y * width + maps.width);
      made.set(row, (o * maps.height + y) * maps.width);
    }
  }
  return { ...maps, values: made, channels: out };
}

/** Put zeros around each map, `edge` pixels on all sides. */
function framed(maps, edge) {
  if (!edge) return maps;
  const [height, width] = [maps.height + 2 * edge, maps.width + 2 * edge];
  const values = new Float32Array(maps.channels * height * width);
  for (let c = 0; c < maps.channels; c++) {
    for (let y = 0; y < maps.height; y++) {
      const from = (c * maps.height + y) * maps.width;
      const to = (c * height + y + edge) * width + edge;
      values.set(maps.values.subarray(from, from + maps.width), to);
    }
  }
  return { values, channels: maps.channels, height, width };
}

/** The mean of each 2x2 pixels. */
function averagePool(maps) {
  const [height, width] = [Math.floor(maps.height / 2), Math.floor(maps.width / 2)];
  const values = new Float32Array(maps.channels * height * width);
  let next = 0;
  for (let c = 0; c < maps.channels; c++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = (c * maps.height + 2 * y) * maps.width + 2 * x;
        const [here, below] = [maps.values, at + maps.width];
        values[next++] = (here[at] + here[at + 1] + here[below] + here[below + 1]) / 4;
      }
    }
  }
  return { values, channels: maps.channels, height, width };
}

function concatenate(old, made) {
  const values = new Float32Array(old.values.length + made.values.length);
  values.set(old.values);
  values.set(made.values, old.values.length);
  return { ...old, values, channels: old.channels + made.channels };
}

/** The mean of each map, and for each class their weighted sum and a bias. */
function classify(maps, weights) {
  const area = maps.height * maps.width;
  const means = Array.from({ length: maps.channels }, (_, c) => {
    return (
      maps.values.subarray(c * area, (c + 1) * area).reduce((all, value) => all + value) / area
    );
  });
  return Array.from(weights["classifier.bias"], (bias, label) => {
    const row = label * maps.channels;
    return means.reduce((all, mean, c) => all + mean * weights["classifier.weight"][row + c], bias);
  });
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const all = powers.reduce((whole, power) => whole + power);
  return powers.map((power) => power / all);
}

/** Class activation map: the weighted sum of the maps, not yet averaged. Its mean is the logit. */
function classActivation({ weights }, { values, channels, height, width }, label) {
  const map = new Float32Array(height * width);
  for (let c = 0; c < channels; c++) {
    const weight = weights["classifier.weight"][label * channels + c];
    for (let i = 0; i < map.length; i++) map[i] += weight * values[c * map.length + i];
  }
  return map;
}
