"use strict";
// The accounts of a DenseNet, stage by stage, from its arguments alone.
//
// densenet_lib/analysis.py measures the same numbers on a network that it builds; here they are
// formulas. tests/browser/test_explorer.py draws 200 networks and compares every number.
// Throughout: k is the growth rate, C a number of maps, b * k the maps that a bottleneck makes.

const FLOAT = 4; // bytes of a float32
const INDEX = 8; // bytes of an int64: max pooling keeps where each maximum stood
const STEMS = ["conv-bn-relu", "conv", "imagenet"];

/** What no network can be; its message is the library's sentence. */
class Impossible extends Error {}

/**
 * Return the ledger of a network: {stages, total, layers}.
 *
 * network: {growthRate, blocks, stemMaps, bottleneck, compression, stem, classes, size}. blocks
 *   lists the layers of each block; bottleneck is b, or null for none; size: pixels of a side.
 * A stage: {stage, layers, connections, channelsIn, channelsOut, size, parameters, macs,
 *   activationBytes, efficientBytes, statistics, efficientStatistics}. Bytes are kept for the
 *   backward pass: the first two for each picture, the statistics once for a batch.
 * A layer: {block, channels}, for the drawings: how many maps arrive at each dense layer.
 * Throws Impossible for arguments that make no network.
 */
function ledger(network) {
  check(network);
  const { growthRate: k, blocks, stemMaps, bottleneck, classes, stem, size } = network;
  const stages = [stemStage(stem, stemMaps, size)];
  const layers = [];
  let [channels, side] = [stemMaps, stem === "imagenet" ? Math.ceil(size / 4) : size];
  blocks.forEach((count, i) => {
    const arrivesKept = i === 0 && stem === "conv-bn-relu"; // by the ReLU that has just made it
    for (let j = 0; j < count; j++) layers.push({ block: i + 1, channels: channels + j * k });
    stages.push(blockStage(i + 1, count, channels, k, bottleneck, side, arrivesKept));
    channels += count * k;
    if (i + 1 < blocks.length) {
      const kept = compressed(channels, network.compression);
      stages.push(transitionStage(i + 1, channels, kept, side));
      [channels, side] = [kept, Math.floor(side / 2)];
    }
  });
  stages.push(lastNormStage(channels, side), classifierStage(channels, classes));
  return { stages, total: totalOf(stages), layers };
}

/** A convolution; but for the paper's small networks a norm and a ReLU, for ImageNet a pooling. */
function stemStage(stem, maps, size) {
  const kernel = stem === "imagenet" ? 7 : 3;
  const made = stem === "imagenet" ? Math.ceil(size / 2) : size; // side behind the convolution
  const pooled = stem === "imagenet" ? Math.ceil(made / 2) : made;
  const weights = 3 * maps * kernel ** 2;
  const normed = stem !== "conv";
  let bytes = FLOAT * 3 * size ** 2; // the picture, for the convolution
  if (normed) bytes += FLOAT * 2 * maps * made ** 2; // what the norm reads, what the ReLU makes
  if (stem === "imagenet") bytes += INDEX * maps * pooled ** 2;
  return row("stem", 3, maps, pooled, {
    layers: 1,
    parameters: weights + (normed ? 2 * maps : 0),
    macs: weights * made ** 2,
    activationBytes: bytes,
    efficientBytes: bytes,
    statistics: normed ? 2 * FLOAT * maps : 0,
    efficientStatistics: normed ? 2 * FLOAT * maps : 0,
  });
}

/** Layer i reads C + i * k maps. Plain, it keeps them twice: concatenated, and normalised. */
function blockStage(number, count, channels, k, b, side, arrivesKept) {
  const out = channels + count * k;
  const read = sum(count, (i) => channels + i * k);
  const between = b === null ? 0 : count * b * k; // maps between the two convolutions
  const weights = sum(count, (i) => layerWeights(channels + i * k, k, b));
  const arrives = arrivesKept ? channels : 0;
  return row(`denseblock${number}`, channels, out, side, {
    layers: count * (b === null ? 1 : 2),
    connections: (count * (count + 1)) / 2,
    parameters: weights + 2 * (read + between),
    macs: weights * side ** 2,
    activationBytes: FLOAT * (2 * read - arrives + 2 * between) * side ** 2,
    efficientBytes: FLOAT * (out + between) * side ** 2, // each map once
    statistics: 2 * FLOAT * (read + between),
    efficientStatistics: 2 * FLOAT * (out + between),
  });
}

/** Weights of a dense layer's convolutions, and multiply-accumulates for each pixel. */
function layerWeights(channels, k, b) {
  return b === null ? 9 * channels * k : channels * b * k + 9 * b * k * k;
}

/** How many maps must arrive for a bottleneck to pay: 7.2 k for b = 4, never from b = 9 on. */
function breakEven(k, b) {
  return b < 9 ? (9 * b * k) / (9 - b) : Infinity;
}

/** Norm, ReLU, 1x1 convolution, and pooling of 2x2 pixels into one. */
function transitionStage(number, channels, kept, side) {
  return row(`transition${number}`, channels, kept, Math.floor(side / 2), {
    layers: 1,
    parameters: channels * kept + 2 * channels,
    macs: channels * kept * side ** 2,
    activationBytes: FLOAT * (2 * channels + kept) * side ** 2,
    efficientBytes: 0, // it reads the block's own maps, and recomputes the rest
    statistics: 2 * FLOAT * channels,
    efficientStatistics: 2 * FLOAT * channels,
  });
}

function lastNormStage(channels, side) {
  return row("last norm", channels, channels, side, {
    parameters: 2 * channels,
    activationBytes: FLOAT * 2 * channels * side ** 2,
    efficientBytes: FLOAT * channels * side ** 2, // what it reads is the last block's
    statistics: 2 * FLOAT * channels,
    efficientStatistics: 2 * FLOAT * channels,
  });
}

/** Each map's mean, and a weighted sum of the means for each class. */
function classifierStage(channels, classes) {
  return row("classifier", channels, classes, 1, {
    layers: 1,
    parameters: channels * classes + classes,
    macs: channels * classes,
    activationBytes: FLOAT * channels,
    efficientBytes: FLOAT * channels,
  });
}

const COUNTED = [
  "layers",
  "connections",
  "parameters",
  "macs",
  "activationBytes",
  "efficientBytes",
  "statistics",
  "efficientStatistics",
];

function row(stage, channelsIn, channelsOut, side, counts) {
  const zeros = Object.fromEntries(COUNTED.map((name) => [name, 0]));
  return { stage, channelsIn, channelsOut, size: `${side}x${side}`, ...zeros, ...counts };
}

function totalOf(stages) {
  const last = stages[stages.length - 1];
  const counts = COUNTED.map((name) => [name, sum(stages.length, (i) => stages[i][name])]);
  const ends = { stage: "total", channelsIn: 3, channelsOut: last.channelsOut, size: last.size };
  return { ...ends, ...Object.fromEntries(counts) };
}

function sum(count, term) {
  let whole = 0;
  for (let i = 0; i < count; i++) whole += term(i);
  return whole;
}

function compressed(channels, compression) {
  const kept = Math.floor(channels * compression);
  if (kept < 1) throw new Impossible(`compression ${compression} leaves none of ${channels} maps`);
  return kept;
}

/** Throw Impossible, with the library's sentence, for arguments that make no network. */
function check({ growthRate, blocks, stemMaps, bottleneck, compression, stem, classes, size }) {
  whole("growth_rate", growthRate);
  whole("num_init_features", stemMaps);
  whole("num_classes", classes);
  if (!blocks.length) {
    throw new Impossible("block_config must list the layers of each block, such as (6, 12)");
  }
  blocks.forEach((count, i) => whole(`block_config[${i}]`, count));
  if (bottleneck !== null) whole("bn_size", bottleneck);
  if (!(compression > 0 && compression <= 1)) {
    throw new Impossible(`compression is ${compression}: it must be above 0 and at most 1`);
  }
  if (!STEMS.includes(stem)) {
    const all = STEMS.map((name) => `'${name}'`).join(", ");
    throw new Impossible(`stem is '${stem}': choose one of ${all}`);
  }
  whole("the size of a picture", size);
  const transitions = blocks.length - 1;
  const side = stem === "imagenet" ? Math.ceil(size / 4) : size;
  if (side < 2 ** transitions) {
    throw new Impossible(
      `a ${size}x${size} picture shrinks below 1x1 in the ${transitions} transition(s) after ` +
        `the '${stem}' stem: use fewer blocks or larger pictures`,
    );
  }
}

function whole(name, value) {
  if (!Number.isInteger(value) || value < 1) {
    throw new Impossible(`${name} is ${value}: it must be a whole number of at least 1`);
  }
}

/**
 * Return the three equal blocks of a network of the paper for 32x32 pictures.
 *
 * depth: layers with weights, 6n + 4 with bottlenecks (DenseNet-BC), else 3n + 4.
 * Throws Impossible, whose `near` lists the nearest depths that fit.
 */
function blocksOfDepth(depth, hasBottleneck) {
  whole("depth", depth);
  const step = hasBottleneck ? 6 : 3;
  if (depth < step + 4 || (depth - 4) % step) {
    const below = Math.floor(Math.max(depth - 4, step) / step) * step + 4;
    const near = depth > below ? [below, below + step] : [below];
    const kind = hasBottleneck ? "DenseNet-BC" : "basic DenseNet";
    const error = new Impossible(
      `depth ${depth} does not fit: a ${kind} has ${step}n + 4 layers; ` +
        `near it: ${near.join(" or ")}`,
    );
    throw Object.assign(error, { near });
  }
  return Array(3).fill((depth - 4) / step);
}

/** A network of the paper for 32x32 pictures, as densenet_lib's `densenet_cifar` builds it. */
function densenetCifar(depth, growthRate, hasBottleneck) {
  return {
    growthRate,
    blocks: blocksOfDepth(depth, hasBottleneck),
    stemMaps: hasBottleneck ? 2 * growthRate : 16,
    bottleneck: hasBottleneck ? 4 : null,
    compression: hasBottleneck ? 0.5 : 1,
    stem: "conv",
    classes: 10,
    size: 32,
  };
}

/** A network of the paper for 224x224 pictures, as torchvision has it too. */
function densenetImagenet(growthRate, blocks, stemMaps) {
  const rest = { bottleneck: 4, compression: 0.5, stem: "imagenet", classes: 1000, size: 224 };
  return { growthRate, blocks, stemMaps, ...rest };
}

const ORIGIN = {
  growthRate: 12,
  blocks: [6, 12],
  stemMaps: 24,
  bottleneck: 4,
  compression: 0.5,
  stem: "conv-bn-relu",
  classes: 10,
  size: 32,
};

// Name, network, parameters as published, and error on CIFAR-10 with flips and shifts (C10+), per
// cent, from the authors' table.
const NAMED = [
  ["This series' network", ORIGIN],
  ["DenseNet-40, k = 12", densenetCifar(40, 12, false), "1.0M", "5.24"],
  ["DenseNet-100, k = 12", densenetCifar(100, 12, false), "7.0M", "4.10"],
  ["DenseNet-100, k = 24", densenetCifar(100, 24, false), "27.2M", "3.74"],
  ["DenseNet-BC-100, k = 12", densenetCifar(100, 12, true), "0.8M", "4.51"],
  ["DenseNet-BC-250, k = 24", densenetCifar(250, 24, true), "15.3M", "3.62"],
  ["DenseNet-BC-190, k = 40", densenetCifar(190, 40, true), "25.6M", "3.46"],
  ["DenseNet-121", densenetImagenet(32, [6, 12, 24, 16], 64), "8.0M"],
  ["DenseNet-169", densenetImagenet(32, [6, 12, 32, 32], 64), "14.1M"],
  ["DenseNet-201", densenetImagenet(32, [6, 12, 48, 32], 64), "20.0M"],
  ["DenseNet-161", densenetImagenet(48, [6, 12, 36, 24], 96), "28.7M"],
].map(([name, network, parameters, error]) => ({ name, network, parameters, error }));
