"use strict";
// The page: from the form and the address to a network, and from its ledger to what is shown.

const NUMBERS = ["growthRate", "compression", "stemMaps", "size", "classes", "batch"];
const ADDRESS = {
  growthRate: "k",
  compression: "c",
  stemMaps: "maps",
  size: "size",
  classes: "classes",
  batch: "batch",
};
const MOST_LAYERS = 2000; // so that a slip of the finger does not stop the page
const $ = (id) => document.getElementById(id);

/** Read the form. Throws Impossible, in a sentence, for what makes no network. */
function readChoice() {
  const choice = Object.fromEntries(NUMBERS.map((name) => [name, numberIn($(name).value)]));
  choice.bottleneck = $("bottleneck").value === "none" ? null : numberIn($("bottleneck").value);
  choice.stem = $("stem").value;
  choice.beside = $("beside").value;
  if (byDepth()) {
    choice.blocks = blocksOfDepth(numberIn($("depth").value), choice.bottleneck !== null);
  } else {
    choice.blocks = $("blocks")
      .value.split(/[\s,;]+/)
      .filter(Boolean)
      .map(numberIn);
  }
  whole("the batch", choice.batch);
  check(choice);
  if (choice.blocks.reduce((all, count) => all + count, 0) > MOST_LAYERS) {
    throw new Impossible(`this page draws at most ${exactly(MOST_LAYERS)} dense layers: use fewer`);
  }
  const { total, stages } = ledger(choice);
  const kept = choice.batch * total.activationBytes + total.statistics;
  if (Math.max(total.parameters, total.macs, kept) > Number.MAX_SAFE_INTEGER) {
    throw new Impossible("this network is too large to be counted exactly here: take less of it");
  }
  if (choice.batch === 1 && stages[stages.length - 2].size === "1x1") {
    const told = "one picture of one final pixel has no batch statistics";
    throw new Impossible(`${told}: use 2 or more pictures, or larger ones`);
  }
  return choice;
}

function numberIn(text) {
  if (text.trim() === "") return "nothing";
  const number = Number(text);
  return Number.isNaN(number) ? `'${text}'` : number;
}

function byDepth() {
  return document.querySelector("input[name=by]:checked").value === "depth";
}

/** Write a choice into the form. */
function writeChoice(choice) {
  for (const name of NUMBERS) if (name in choice) $(name).value = choice[name];
  $("bottleneck").value = String(choice.bottleneck ?? "none");
  $("stem").value = choice.stem;
  if ("beside" in choice) $("beside").value = choice.beside;
  if ("depth" in choice) $("depth").value = choice.depth;
  if ("blocks" in choice) $("blocks").value = choice.blocks.join(", ");
  const by = "depth" in choice ? "depth" : "blocks";
  document.querySelector(`input[name=by][value=${by}]`).checked = true;
}

/** Depth and blocks tell the same: fill in the one that is not asked for. */
function keepBoth(choice) {
  if (byDepth()) $("blocks").value = choice.blocks.join(", ");
  else $("depth").value = depthOf(choice);
}

/** The depth of three equal blocks that comes nearest. */
function depthOf({ blocks, bottleneck }) {
  const step = bottleneck === null ? 3 : 6;
  const layers = blocks.reduce((all, count) => all + count, 0);
  return Math.max(1, Math.round(layers / 3)) * step + 4;
}

/** A paper's network is asked for by depth where it has one; the others block by block. */
function asChoice(network) {
  const { stem, blocks } = network;
  const isPapers = stem === "conv" && blocks.length === 3 && blocks.every((n) => n === blocks[0]);
  return isPapers ? { ...network, depth: depthOf(network) } : network;
}

// The address: #depth=100&k=12&... can be sent to others

function toAddress(choice) {
  const parts = new URLSearchParams();
  if ("depth" in choice) parts.set("depth", choice.depth);
  else parts.set("blocks", choice.blocks.join("-"));
  parts.set("b", choice.bottleneck ?? "none");
  parts.set("stem", choice.stem);
  for (const name of NUMBERS) if (name in choice) parts.set(ADDRESS[name], choice[name]);
  if (choice.beside) parts.set("beside", choice.beside);
  return `#${parts}`;
}

let writing;

/** Browsers allow only so many changes in a short time: the last one is written in any case. */
function writeAddress(address) {
  clearTimeout(writing);
  try {
    history.replaceState(null, "", address);
  } catch {
    // tried again below
  }
  if (location.hash !== address) writing = setTimeout(writeAddress, 1000, address);
}

/** What an address leaves open is as in this series' network. */
function fromAddress(address) {
  const parts = new URLSearchParams(address.slice(1));
  const choice = { ...ORIGIN, batch: 64 };
  for (const name of NUMBERS) choice[name] = parts.get(ADDRESS[name]) ?? choice[name];
  choice.stem = parts.get("stem") ?? choice.stem;
  if (parts.has("b")) choice.bottleneck = parts.get("b") === "none" ? null : parts.get("b");
  if (parts.has("blocks")) choice.blocks = parts.get("blocks").split("-");
  if (parts.has("depth")) choice.depth = parts.get("depth");
  const beside = NAMED.find(({ name }) => name === parts.get("beside"));
  choice.beside = beside ? beside.name : "";
  return choice;
}

// What is shown

/** Read the form and show everything; or say why there is no such network. */
function update() {
  $("depth-field").hidden = !byDepth();
  $("blocks-field").hidden = byDepth();
  for (const slider of document.querySelectorAll("input[type=range]")) {
    slider.value = $(slider.dataset.for).value;
  }
  let choice;
  try {
    choice = readChoice();
  } catch (error) {
    if (!(error instanceof Impossible)) throw error;
    return complain(error);
  }
  $("problem").replaceChildren();
  $("results").classList.remove("stale");
  $("results").removeAttribute("inert");
  keepBoth(choice);
  if (byDepth()) choice.depth = Number($("depth").value);
  writeAddress(toAddress(choice));
  showAll(choice);
}

function complain(error) {
  const buttons = (error.near ?? []).map((depth) => {
    const button = html("button", { type: "button" }, `take ${depth}`);
    button.addEventListener("click", () => {
      $("depth").value = depth;
      update();
      $("depth").focus();
    });
    return button;
  });
  $("named").value = "-1"; // so that the same name can be chosen again
  $("problem").replaceChildren(`${forReaders(error.message)}. `, ...buttons);
  $("results").classList.add("stale");
  $("results").setAttribute("inert", "");
}

const WORDS = [
  // what the page's reader knows instead of the library's names
  [/^growth_rate/, "The growth rate"],
  [/^num_init_features/, "The number of the stem's maps"],
  [/^num_classes/, "The number of classes"],
  [/^block_config must/, "The form must"],
  [/, such as .*/, ", such as 6, 12"],
  [/^block_config\[(\d+)\]/, (_, place) => `The length of block ${Number(place) + 1}`],
  [/^bn_size/, "The bottleneck"],
  [/^the size/, "The size"],
  [/\bis nothing:/, "is missing:"],
];

function forReaders(message) {
  const sentence = WORDS.reduce((text, [name, word]) => text.replace(name, word), message);
  return sentence[0].toUpperCase() + sentence.slice(1);
}

let speaking; // what a screen reader says of a change; late, since a slider changes often
let shown; // the choice on the screen, for drawing it again when the page changes its width

function showAll(choice) {
  shown = choice;
  const accounts = ledger(choice);
  const named = NAMED.findIndex(({ network }) => same(network, choice));
  $("named").value = String(named);
  showSums(accounts, choice, NAMED[named]);
  drawNetwork($("drawing"), accounts, choice);
  drawStaircase($("staircase"), accounts, choice);
  drawBottleneck($("pays"), accounts, choice);
  drawMemory($("memory"), accounts, choice.batch);
  drawDeeper($("deeper"), choice);
  showLedger(accounts);
  $("python").textContent = inPython(choice);
  showPaper(accounts, choice, named);
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    const { parameters, macs } = accounts.total;
    $("spoken").textContent =
      `${exactly(parameters)} parameters, ${exactly(macs)} multiply-accumulates.`;
  }, 800);
}

function same(network, choice) {
  return Object.entries(network).every(([name, value]) => String(value) === String(choice[name]));
}

/** The totals, each with a note, and with how many times the compared network's it is. */
function showSums({ total, layers }, { batch, beside }, named) {
  const other = NAMED.find(({ name }) => name === beside);
  const theirs = other && ledger(other.network).total;
  const batchOf = `for a batch of ${exactly(batch)}`;
  const plain = (sums) => batch * sums.activationBytes + sums.statistics;
  const efficient = (sums) => batch * sums.efficientBytes + sums.efficientStatistics;
  const rows = [
    ["Parameters", (sums) => sums.parameters, exactly],
    ["Depth", (sums) => sums.layers, exactly, counted(layers.length, "dense layer")],
    ["Connections", (sums) => sums.connections, exactly, "L(L+1)/2 in each block"],
    ["Multiply-accumulates", (sums) => sums.macs, exactly, "forward, for one picture"],
    ["Kept, plain", plain, sized, batchOf],
    ["Kept, efficient", efficient, sized, batchOf],
  ];
  const cells = rows.map(([name, value, text, note]) => {
    const ratio = theirs && `${times(value(total), value(theirs))} times ${other.name}`;
    const notes = [note, ratio].filter(Boolean).map((line) => html("small", {}, line));
    return html("div", {}, html("dt", {}, name), html("dd", {}, text(value(total)), ...notes));
  });
  $("sums").replaceChildren(...cells);
  $("published").textContent = named?.parameters
    ? `This is ${named.name}, published with ${named.parameters} parameters: ` +
      `the count is ${exactly(total.parameters)}.`
    : "";
}

const COLUMNS = [
  ["layers", "layers"],
  ["connections", "connections"],
  ["channelsIn", "maps in"],
  ["channelsOut", "maps out"],
  ["size", "size"],
  ["parameters", "parameters"],
  ["macs", "multiply-accumulates"],
  ["activationBytes", "bytes kept, plain"],
  ["efficientBytes", "bytes kept, efficient"],
];

/** The accounts as a table; bytes are of one picture, as in the library's ledger. */
function showLedger({ stages, total }) {
  const head = [["stage", "stage"], ...COLUMNS].map(([, text]) =>
    html("th", { scope: "col" }, text),
  );
  const line = (stage) => {
    const cells = COLUMNS.map(([name]) => {
      const value = stage[name];
      return html("td", {}, typeof value === "number" ? exactly(value) : value);
    });
    return html("tr", {}, html("th", { scope: "row" }, stage.stage), ...cells);
  };
  $("ledger").replaceChildren(
    html("thead", {}, html("tr", {}, ...head)),
    html("tbody", {}, ...stages.map(line)),
    html("tfoot", {}, line(total)),
  );
}

/** The line of Python that counts the same network. */
function inPython({ growthRate, blocks, stemMaps, bottleneck, compression, stem, classes, size }) {
  const tuple = blocks.length === 1 ? `(${blocks[0]},)` : `(${blocks.join(", ")})`;
  return (
    `ledger(DenseNet(${growthRate}, ${tuple}, ${stemMaps}, bn_size=${bottleneck ?? "None"}, ` +
    `num_classes=${classes}, compression=${compression}, stem="${stem}"), (3, ${size}, ${size}))`
  );
}

/** The paper's networks, and the chosen one among them, by their parameters. */
function showPaper({ total }, choice, named) {
  const rows = NAMED.map((entry) => ({ ...entry, total: ledger(entry.network).total }));
  if (named < 0) rows.push({ name: "your choice", network: choice, total });
  rows.sort((a, b) => a.total.parameters - b.total.parameters);
  const titles = [
    "network",
    "k",
    "blocks",
    "picture",
    "parameters",
    "",
    "multiply-accumulates",
    "MiB kept a picture, plain",
    "error, %",
  ];
  const head = titles.map((text) => (text ? html("th", { scope: "col" }, text) : html("td")));
  const most = Math.max(...rows.map((entry) => entry.total.parameters));
  const lines = rows.map(({ name, network, total, error }) => {
    const { growthRate, blocks, size } = network;
    const { batch, beside } = choice;
    const link = html("a", { href: toAddress({ ...asChoice(network), batch, beside }) }, name);
    const texts = [growthRate, blocks.join(", "), `${size}x${size}`, exactly(total.parameters)];
    const after = [exactly(total.macs), (total.activationBytes / MIB).toFixed(1), error ?? ""];
    const cells = [
      ...texts.map((text) => html("td", {}, text)),
      html("td", { class: "bar" }, bar(total.parameters, most)),
    ];
    cells.push(...after.map((text) => html("td", {}, text)));
    const line = html("tr", {}, html("th", { scope: "row" }, link), ...cells);
    if (network === choice || NAMED[named]?.network === network) line.className = "yours";
    return line;
  });
  const focus = $("paper").contains(document.activeElement) && document.activeElement.textContent;
  $("paper").replaceChildren(
    html("thead", {}, html("tr", {}, ...head)),
    html("tbody", {}, ...lines),
  );
  const again = [...$("paper").querySelectorAll("a")].find((link) => link.textContent === focus);
  if (again) again.focus({ preventScroll: true });
}

/** A bar on a scale of tens, from 10,000 parameters on. */
function bar(parameters, most) {
  const [width, end] = [150, Math.max(8, Math.log10(most))];
  const x = (number) => (Math.max(0, Math.log10(number) - 4) / (end - 4)) * width;
  const lines = [4, 5, 6, 7, 8].map((power) => `M${x(10 ** power)} 0v16`).join("");
  return svg(
    "svg",
    { width, height: 16, viewBox: `0 0 ${width} 16`, "aria-hidden": "true" },
    svg("path", { class: "grid", d: lines }),
    svg("rect", { class: "blue", y: 3, width: Math.max(1, x(parameters)), height: 10 }),
  );
}

// What the reader does

function begin() {
  $("named").append(
    html("option", { value: "-1" }, "your own choice"),
    ...NAMED.map(({ name }, i) => html("option", { value: String(i) }, name)),
  );
  $("beside").append(
    html("option", { value: "" }, "nothing"),
    ...NAMED.map(({ name }) => html("option", { value: name }, name)),
  );
  $("named").addEventListener("change", (event) => {
    event.stopPropagation();
    const entry = NAMED[Number(event.target.value)];
    if (entry) writeChoice(asChoice(entry.network));
    update();
  });
  $("choice").addEventListener("input", (event) => {
    if (event.target.id === "named") return;
    if (event.target.dataset.for) $(event.target.dataset.for).value = event.target.value;
    update();
  });
  $("choice").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => {
    writeChoice(fromAddress(location.hash));
    update();
  });
  let width = document.body.clientWidth;
  addEventListener("resize", () => {
    if (document.body.clientWidth === width || !shown) return;
    width = document.body.clientWidth;
    showAll(shown);
  });
  const asked = location.hash; // which may be damaged: then there is still something to see
  for (const address of ["", asked]) {
    writeChoice(fromAddress(address));
    update();
  }
  if ($("results").hasAttribute("inert")) history.replaceState(null, "", asked);
  showQuestions($("questions"), 64);
}

begin();
