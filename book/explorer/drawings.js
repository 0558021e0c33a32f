"use strict";
// The drawings: each fills a <figure> with an SVG, as wide as the page, and a sentence that says
// what to look at. The text alternative tells what the drawing shows.

const NAMESPACE = "http://www.w3.org/2000/svg";
const MIB = 2 ** 20;
const MOST_ARCS = 6000; // in one block; beyond that only some of its layers have theirs drawn

/** Make an SVG element: svg("text", { x: 3, y: 4, class: "end" }, "24 maps"). */
function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Make an HTML element in the same way. */
function html(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Put a drawing into a figure. parts: SVG elements; height in pixels. */
function show(figure, height, alternative, caption, parts) {
  const box = `0 0 ${widthOf(figure)} ${height}`;
  const size = { viewBox: box, width: widthOf(figure), height };
  const drawing = svg("svg", { role: "img", "aria-label": alternative, ...size }, ...parts);
  figure.replaceChildren(drawing, html("figcaption", {}, caption));
}

function widthOf(figure) {
  return Math.max(280, Math.min(900, figure.clientWidth));
}

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const COMPACT = new Intl.NumberFormat("en-US", {
  notation: "compact",
  maximumSignificantDigits: 3,
});

/** 187450 -> "187,450" */
function exactly(number) {
  return WHOLE.format(number);
}

/** 3, "layer" -> "3 layers" */
function counted(number, thing) {
  return `${exactly(number)} ${thing}${number === 1 ? "" : "s"}`;
}

/** 85895040 -> "85.9M" */
function shortly(number) {
  return COMPACT.format(number);
}

/** Bytes with three digits that count: 768 B, 46.9 KiB, 640 MiB. */
function sized(bytes) {
  const [unit, name] = bytes < 1024 ? [1, "B"] : bytes < MIB ? [1024, "KiB"] : [MIB, "MiB"];
  const value = bytes / unit;
  return `${value >= 100 || unit === 1 ? exactly(value) : value.toPrecision(3)} ${name}`;
}

/** Return round numbers from 0 to at least `end`, some five of them. */
function ticks(end) {
  const rough = Math.max(end, 1e-9) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  const found = [0];
  while (found[found.length - 1] < end) found.push(found.length * step);
  return found;
}

/** Axes of a plot: x and y, which place numbers, and what to draw. */
function axes(width, height, xEnd, yTicks, yText, xText, yName) {
  const [left, right, top, bottom] = [52, 14, 48, height - 40];
  const yEnd = yTicks[yTicks.length - 1];
  const x = (value) => left + (value / xEnd) * (width - left - right);
  const y = (value) => bottom - (value / yEnd) * (bottom - top);
  const parts = yTicks.flatMap((value) => [
    svg("path", { class: "grid", d: `M${left} ${y(value)}H${width - right}` }),
    svg("text", { class: "end quiet", x: left - 6, y: y(value) + 4 }, yText(value)),
  ]);
  parts.push(svg("path", { class: "axis", d: `M${left} ${bottom}H${width - right}` }));
  parts.push(svg("text", { class: "quiet", x: 2, y: 12 }, yName));
  const middle = (left + width - right) / 2;
  parts.push(svg("text", { class: "middle quiet", x: middle, y: height - 4 }, xText));
  return { x, y, parts, bottom };
}

/** What each line is, in a row above the plot. */
function legend(lines) {
  return lines.flatMap(([colour, text], i) => [
    svg("path", { class: `line ${colour}`, d: `M${4 + 160 * i} 30h26` }),
    svg("text", { x: 36 + 160 * i, y: 34 }, text),
  ]);
}

/** Numbers along the x axis. */
function numbersBelow({ x, bottom }, values, text) {
  return values.map((value) =>
    svg("text", { class: "middle quiet", x: x(value), y: bottom + 16 }, text(value)),
  );
}

// The network

/** Boxes to scale, as wide as they have maps and as high as their picture, with all connections. */
function drawNetwork(figure, { stages, layers }, network) {
  const width = widthOf(figure);
  const parts = stages.filter(({ stage }) => stage !== "last norm");
  const drawn = parts.map((stage) => ({ ...stage, side: parseInt(stage.size) }));
  const highest = Math.max(...drawn.map(({ side }) => side));
  const maps = ({ stage, channelsOut }) => (stage === "classifier" ? 0 : channelsOut);
  const gap = Math.max(6, Math.min(30, width / (4 * drawn.length)));
  const scale = (width - gap * drawn.length - 10) / drawn.reduce((all, s) => all + maps(s), 0);
  const [top, tall] = [96, 120]; // room for the arcs, and for the highest box
  const bend = Math.min(0.8, (2 * top) / (scale * Math.max(...drawn.map(maps)))); // of the arcs
  const found = [];
  const lastLabel = {};
  let left = gap / 2;
  for (const stage of drawn) {
    const wide = Math.max(2, maps(stage) * scale) + (stage.stage === "classifier" ? 8 : 0);
    const high = Math.max(2, (tall * stage.side) / highest);
    const box = { x: left, y: top + tall - high, width: wide, height: high };
    if (stage.stage.startsWith("denseblock")) {
      found.push(...denseBlock(box, stage, network.growthRate, scale, bend));
    } else {
      const colour = stage.stage.startsWith("transition") ? "orange" : "grey";
      found.push(svg("rect", { class: colour, ...box }));
    }
    const line = stage.stage.startsWith("denseblock") ? 0 : 1;
    const middle = Math.max(34, Math.min(width - 34, left + wide / 2));
    if (middle - (lastLabel[line] ?? -99) > 74) {
      found.push(...label(middle, top + tall + 18 + line * 52, stage));
      lastLabel[line] = middle;
    }
    left += wide + gap;
  }
  const largest = stages.reduce((most, s) => (s.connections > most.connections ? s : most));
  show(
    figure,
    top + tall + 112,
    "The network from left to right. " + parts.map(inWords).join(" "),
    "A box is as wide as it has maps and as high as its picture. Pale is what arrives at a block, " +
      "each stripe is what one layer adds, and each arc is a connection: a layer reads everything " +
      `on its left. ${titled(largest.stage)} has ${counted(largest.connections, "arc")}` +
      `${largest.connections > MOST_ARCS ? " (some are drawn)" : ""}, the whole ` +
      `network ${exactly(stages.reduce((all, s) => all + s.connections, 0))}, in ` +
      `${counted(layers.length, "dense layer")}.`,
    found,
  );
}

function denseBlock(box, { channelsIn, channelsOut, connections }, k, scale, bend) {
  const { x, y, height } = box;
  const count = (channelsOut - channelsIn) / k;
  const [begin, step] = [x + channelsIn * scale, k * scale];
  const centres = [x + (channelsIn * scale) / 2];
  for (let i = 0; i < count; i++) centres.push(begin + (i + 0.5) * step);
  const every = Math.ceil(Math.sqrt(connections / MOST_ARCS));
  const tips = every > 1 ? centres.filter((_, i) => i % every === 0) : centres;
  const arcs = [];
  tips.forEach((to, i) => {
    for (const from of tips.slice(0, i)) {
      const radius = (to - from) / 2;
      const [begins, across, up] = [from, radius, radius * bend].map((n) => n.toFixed(1));
      arcs.push(`M${begins} ${y}a${across} ${up} 0 0 1 ${(2 * radius).toFixed(1)} 0`);
    }
  });
  const gaps = [];
  for (let i = 0; i < count; i++) gaps.push(`M${(begin + i * step).toFixed(1)} ${y}v${height}`);
  const opacity = Math.max(0.08, Math.min(0.6, 6 / Math.sqrt(arcs.length)));
  return [
    svg("rect", { class: "sky", ...box }),
    svg("rect", { class: "blue", ...box, x: begin, width: count * step }),
    svg("path", { class: "gaps", d: gaps.join(""), "stroke-width": Math.min(1.2, step / 4) }),
    svg("path", { class: "arcs", d: arcs.join(""), "stroke-opacity": opacity }),
  ];
}

function label(x, y, { stage, channelsOut, size }) {
  const words = stage === "classifier" ? "classes" : "maps";
  const lines = [titled(stage), `${exactly(channelsOut)} ${words}`, size];
  return lines.slice(0, stage === "classifier" ? 2 : 3).map((text, i) => {
    const kind = i ? "middle quiet" : "middle strong";
    return svg("text", { class: kind, x, y: y + 15 * i }, text);
  });
}

/** "denseblock2" -> "Block 2" */
function titled(stage) {
  const [, word, number] = stage.match(/^(?:dense)?(.*?)(\d*)$/);
  return word[0].toUpperCase() + word.slice(1) + (number && ` ${number}`);
}

function inWords({ stage, connections, channelsIn, channelsOut, size }) {
  const maps = `${channelsIn} maps come in, ${channelsOut} go out`;
  if (stage.startsWith("denseblock")) {
    return `${titled(stage)}: ${maps}, ${size}, ${connections} connections.`;
  }
  if (stage === "classifier") return `Classifier: ${channelsIn} maps, ${channelsOut} classes.`;
  return `${titled(stage)}: ${maps}, ${size}.`;
}

// The staircase

/** How many maps there are, after each layer. */
function drawStaircase(figure, { stages, layers }, network) {
  const [width, height] = [widthOf(figure), 270];
  const { growthRate: k, blocks } = network;
  const steps = []; // how many maps there are, one for each thing that runs
  const peaks = [];
  stages.forEach((stage) => {
    if (stage.stage.startsWith("denseblock")) {
      const block = Number(stage.stage.slice("denseblock".length));
      const inside = layers.filter((layer) => layer.block === block);
      inside.forEach(({ channels }) => steps.push({ maps: channels + k, colour: "blue" }));
      peaks.push(steps.length - 1);
    } else if (stage.stage === "stem" || stage.stage.startsWith("transition")) {
      const colour = stage.stage === "stem" ? "grey" : "orange";
      steps.push({ maps: stage.channelsOut, colour });
    }
  });
  const most = Math.max(...steps.map(({ maps }) => maps));
  const plot = axes(width, height, steps.length, ticks(most), exactly, "layer after layer", "maps");
  const wide = plot.x(1) - plot.x(0);
  const bars = steps.map(({ maps, colour }, i) => {
    const space = Math.min(1, wide / 5);
    const place = { x: plot.x(i), y: plot.y(maps), width: wide - space };
    return svg("rect", { class: colour, ...place, height: plot.bottom - plot.y(maps) });
  });
  const peakLabels = peaks.map((i) => {
    const place = { x: plot.x(i + 1) + 2, y: plot.y(steps[i].maps) - 4 };
    return svg("text", { class: "end strong", ...place }, exactly(steps[i].maps));
  });
  const kept =
    network.compression === 1 ? "all of them" : `${percent(network.compression)} of them`;
  const after =
    blocks.length > 1 ? ` A transition (orange) keeps ${kept}, and halves the picture.` : "";
  show(
    figure,
    height,
    `Bars that rise by ${k} maps a layer: ` +
      peaks.map((i, n) => `block ${n + 1} ends with ${steps[i].maps} maps`).join(", ") +
      ".",
    `Each dense layer adds ${k} maps, however many there are already: steps of one height.` +
      after +
      ` The last layer reads ${exactly(layers[layers.length - 1].channels)} maps and still makes ${k}.`,
    [...plot.parts, ...bars, ...peakLabels],
  );
}

function percent(share) {
  return `${Number((100 * share).toPrecision(3))} %`;
}

// Where the bottleneck pays

/** Multiply-accumulates of a layer for each pixel, by how many maps arrive: two straight lines. */
function drawBottleneck(figure, { layers }, network) {
  const [width, height] = [widthOf(figure), 290];
  const { growthRate: k, bottleneck } = network;
  const b = bottleneck ?? 4;
  const even = breakEven(k, b);
  const widest = Math.max(...layers.map(({ channels }) => channels));
  const xEnd = Math.max(widest, even < 4 * widest ? 1.2 * even : 0) * 1.05;
  const cost = (channels, kind) => layerWeights(channels, k, kind);
  const yEnd = Math.max(cost(xEnd, null), cost(xEnd, b));
  const plot = axes(
    width,
    height,
    xEnd,
    ticks(yEnd),
    shortly,
    "maps that arrive at a layer",
    "multiply-accumulates for each pixel",
  );
  const below = ticks(xEnd).filter((value) => value <= xEnd);
  const straight = (kind) =>
    `M${plot.x(0)} ${plot.y(cost(0, kind))}L${plot.x(xEnd)} ${plot.y(cost(xEnd, kind))}`;
  const parts = [...plot.parts, ...numbersBelow(plot, below, exactly)];
  parts.push(svg("path", { class: "line orange", d: straight(null) }));
  parts.push(svg("path", { class: "line blue", d: straight(b) }));
  if (even < xEnd) {
    const text = `${decimal(even)} maps`;
    const flip = plot.x(even) > width - 90;
    parts.push(svg("path", { class: "mark", d: `M${plot.x(even)} ${plot.bottom}V48` }));
    const place = { x: plot.x(even) + (flip ? -5 : 5), y: plot.bottom - 8 };
    parts.push(svg("text", { class: flip ? "end strong" : "strong", ...place }, text));
  }
  const colour = bottleneck === null ? "orange" : "blue";
  for (const { channels } of layers) {
    const place = { cx: plot.x(channels), cy: plot.y(cost(channels, bottleneck)), r: 3.5 };
    parts.push(svg("circle", { class: `dot ${colour}`, ...place }));
  }
  parts.push(
    ...legend([
      ["orange", "3x3 from all maps"],
      ["blue", `1x1 to ${b * k}, 3x3`],
    ]),
  );
  const from = even < Infinity ? `only from ${decimal(even)} maps on.` : "nowhere.";
  const pays = layers.filter(({ channels }) => channels > even).length;
  const whole = (kind) => blockMacs({ ...network, bottleneck: kind });
  const where = even < Infinity ? `where more than ${decimal(even)} maps arrive` : "nowhere";
  show(
    figure,
    height,
    `Two lines. The bottleneck of ${b * k} maps costs less ${where}. ` +
      `That is so in ${pays} of this network's ${layers.length} layers.`,
    (even < xEnd
      ? "Where the lines cross, both ways cost the same: left of it a bottleneck is a waste, right " +
        "of it, it pays. "
      : `The lines do not cross here: so wide a bottleneck pays ${from} `) +
      `Dots are this network's layers: it ${bottleneck === null ? "would pay" : "pays"} in ${pays} of ` +
      `${layers.length}. All its dense layers need ${shortly(whole(b))} multiply-accumulates for a ` +
      `picture with bottlenecks, ${shortly(whole(null))} without.`,
    parts,
  );
}

function blockMacs(network) {
  const blocks = ledger(network).stages.filter(({ stage }) => stage.startsWith("denseblock"));
  return blocks.reduce((all, { macs }) => all + macs, 0);
}

function decimal(number) {
  return Number(number.toFixed(1)).toLocaleString("en-US");
}

// Memory

/** Bytes kept by a batch, stage by stage: two bars each. */
function drawMemory(figure, { stages, total }, batch) {
  const width = widthOf(figure);
  const rows = [total, ...stages].map((stage) => ({
    name: titled(stage.stage),
    plain: batch * stage.activationBytes + stage.statistics,
    efficient: batch * stage.efficientBytes + stage.efficientStatistics,
  }));
  const [left, right, line] = [92, 84, 40];
  const most = rows[0].plain;
  const length = (bytes) => (bytes / most) * (width - left - right);
  const parts = [hatch()];
  rows.forEach(({ name, plain, efficient }, i) => {
    const y = 30 + i * line;
    parts.push(svg("text", { class: i ? "end" : "end strong", x: left - 8, y: y + 18 }, name));
    [plain, efficient].forEach((bytes, j) => {
      const box = { x: left, y: y + 15 * j, width: length(bytes), height: 13 };
      parts.push(
        svg("rect", { class: j ? "" : "blue", ...(j && { fill: "url(#hatch)" }), ...box }),
      );
      const place = { x: left + length(bytes) + 6, y: y + 15 * j + 11 };
      parts.push(svg("text", { class: "quiet", ...place }, sized(bytes)));
    });
  });
  parts.push(svg("rect", { class: "blue", x: left, y: 4, width: 24, height: 12 }));
  parts.push(svg("text", { x: left + 30, y: 14 }, "plain"));
  parts.push(svg("rect", { fill: "url(#hatch)", x: left + 80, y: 4, width: 24, height: 12 }));
  parts.push(svg("text", { x: left + 110, y: 14 }, "efficient"));
  const { plain, efficient } = rows[0];
  show(
    figure,
    36 + rows.length * line,
    rows
      .map((r) => `${r.name}: plain ${sized(r.plain)}, efficient ${sized(r.efficient)}.`)
      .join(" "),
    `A batch of ${exactly(batch)} keeps ${exactly(plain)} bytes plain and ${exactly(efficient)} ` +
      `efficient, ${(efficient / plain).toFixed(2)} of it. Look at the last blocks: plain, each layer ` +
      "keeps two copies of all that it reads; efficient, each map is kept once.",
    parts,
  );
}

function hatch() {
  const tile = {
    id: "hatch",
    width: 6,
    height: 6,
    patternUnits: "userSpaceOnUse",
    patternTransform: "rotate(45)",
  };
  const parts = [
    svg("rect", { class: "orange", width: 6, height: 6 }),
    svg("rect", { width: 2, height: 6, style: "fill: var(--gap)" }),
  ];
  return svg("defs", {}, svg("pattern", tile, ...parts));
}

/** The same network with fewer and with more layers in its blocks. */
function drawDeeper(figure, network) {
  const [width, height] = [widthOf(figure), 250];
  const points = [];
  for (let times = 0.25; times <= 2.001; times += 0.125) {
    const blocks = network.blocks.map((count) => Math.max(1, Math.round(count * times)));
    let counts;
    try {
      counts = ledger({ ...network, blocks });
    } catch (error) {
      if (!(error instanceof Impossible)) throw error;
      continue; // so short that compression leaves no map
    }
    const { total, layers } = counts;
    points.push({
      layers: layers.length,
      plain: total.activationBytes,
      efficient: total.efficientBytes,
    });
  }
  const last = points[points.length - 1];
  const plot = axes(
    width,
    height,
    last.layers * 1.02,
    ticks(last.plain / MIB),
    (v) => Number(v.toPrecision(3)).toLocaleString("en-US"),
    "dense layers of all blocks",
    "MiB a picture",
  );
  const below = ticks(last.layers).filter(
    (value) => value <= last.layers && Number.isInteger(value),
  );
  const line = (name) =>
    "M" + points.map((p) => `${plot.x(p.layers)} ${plot.y(p[name] / MIB)}`).join("L");
  const { total, layers } = ledger(network);
  const parts = [...plot.parts, ...numbersBelow(plot, below, exactly)];
  parts.push(svg("path", { class: "line blue", d: line("plain") }));
  parts.push(svg("path", { class: "line orange", d: line("efficient") }));
  for (const [name, colour] of [
    ["activationBytes", "blue"],
    ["efficientBytes", "orange"],
  ]) {
    const place = { cx: plot.x(layers.length), cy: plot.y(total[name] / MIB), r: 5 };
    parts.push(svg("circle", { class: `dot ${colour}`, ...place }));
  }
  parts.push(
    ...legend([
      ["blue", "plain"],
      ["orange", "efficient"],
    ]),
  );
  const half = points.find((p) => p.layers >= last.layers / 2) ?? last;
  const times = (name) => (last[name] / half[name]).toFixed(1);
  show(
    figure,
    height,
    `From ${half.layers} to ${last.layers} layers the plain network's bytes grow ${times("plain")} times, ` +
      `the efficient one's ${times("efficient")} times.`,
    `From ${half.layers} to ${last.layers} layers the plain network's bytes grow ${times("plain")} ` +
      `times, the efficient one's ${times("efficient")} times. Look at which line bends: plain, each ` +
      "layer more also makes all later ones dearer. The dots are the network chosen.",
    parts,
  );
}
