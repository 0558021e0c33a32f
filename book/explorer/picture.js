"use strict";
// The page: from a picture to the network's answer, where it looked, and its maps.

const COLUMNS = 16; // feature maps in a row
const $ = (id) => document.getElementById(id);

const network = typeof CHECKPOINT === "undefined" ? null : unpack(CHECKPOINT);
let pixels, answer; // of the picture on the screen

// Pictures come in

let newest = 0; // a picture that is read slowly must not replace a later one

/** Read a file that the reader gave; or say that it is none. */
async function take(file) {
  const turn = ++newest;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file); // a phone's note of how it was held is followed
  } catch {
    if (turn !== newest) return;
    const name = file.name || "What you gave";
    $("problem").textContent = `${name} is no picture that this browser can read: try PNG or JPEG.`;
    return;
  }
  try {
    if (turn === newest) show(bytesOf(bitmap));
  } catch (error) {
    $("problem").textContent = `This picture could not be worked on here: ${error.message}.`;
  } finally {
    bitmap.close();
  }
}

/** Any picture, on white where it is transparent, as bytes (3, 32, 32). */
function bytesOf(picture) {
  const { width, height } = picture;
  const [, brush] = canvasOf(width, Math.min(height, BAND));
  brush.fillStyle = "white";
  const rowsFrom = (top, rows) => {
    brush.fillRect(0, 0, width, rows);
    brush.drawImage(picture, 0, -top);
    return brush.getImageData(0, 0, width, rows).data;
  };
  return fit({ width, height, rowsFrom });
}

function canvasOf(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  return [canvas, canvas.getContext("2d", { willReadFrequently: true })];
}

// Drawings, for a first try: no photograph may be given away with this page

const DRAWINGS = {
  "a ship": (brush) => {
    sky(brush, "#9fc3e0", "#d9e8f2");
    shape(brush, "#2b5a78", [0, 200, 320, 200, 320, 320, 0, 320]);
    shape(brush, "#5b2a26", [40, 175, 290, 165, 255, 225, 75, 225]);
    shape(brush, "#f0f0ee", [90, 130, 220, 125, 225, 172, 88, 175]);
    shape(brush, "#c7472f", [140, 80, 170, 80, 172, 128, 138, 128]);
  },
  "an airplane": (brush) => {
    sky(brush, "#5f9bd3", "#bcdcf3");
    shape(brush, "#e9ecef", [20, 165, 60, 150, 280, 140, 305, 155, 280, 172, 60, 175]);
    shape(brush, "#b9c0c7", [130, 160, 190, 158, 110, 245, 80, 248]);
    shape(brush, "#c9d0d6", [140, 148, 185, 146, 150, 95, 130, 97]);
    shape(brush, "#3d5a80", [25, 160, 55, 152, 40, 95, 15, 97]);
  },
  "a car": (brush) => {
    sky(brush, "#c9d6df", "#eef2f4");
    shape(brush, "#6d6f73", [0, 215, 320, 215, 320, 320, 0, 320]);
    shape(
      brush,
      "#b3202a",
      [20, 180, 60, 165, 105, 115, 215, 115, 260, 165, 300, 175, 305, 225, 20, 225],
    );
    shape(brush, "#2d3b45", [80, 163, 115, 125, 205, 125, 238, 163]);
    for (const x of [85, 240]) disc(brush, "#1b1b1d", x, 228, 30);
    for (const x of [85, 240]) disc(brush, "#b7bcc2", x, 228, 14);
  },
};

function sky(brush, top, bottom) {
  const colours = brush.createLinearGradient(0, 0, 0, 320);
  colours.addColorStop(0, top);
  colours.addColorStop(1, bottom);
  brush.fillStyle = colours;
  brush.fillRect(0, 0, 320, 320);
}

function shape(brush, colour, corners) {
  brush.fillStyle = colour;
  brush.beginPath();
  for (let i = 0; i < corners.length; i += 2) brush.lineTo(corners[i], corners[i + 1]);
  brush.fill();
}

function disc(brush, colour, x, y, radius) {
  brush.fillStyle = colour;
  brush.beginPath();
  brush.arc(x, y, radius, 0, 2 * Math.PI);
  brush.fill();
}

function drawn(draw) {
  const [canvas, brush] = canvasOf(320, 320);
  draw(brush);
  return bytesOf(canvas);
}

// Answers go out

function show(bytes) {
  $("problem").textContent = "";
  pixels = bytes;
  const began = performance.now();
  answer = forward(network, pixels);
  const seconds = (performance.now() - began) / 1000;
  $("seconds").textContent = `This answer took ${seconds.toFixed(2)} seconds.`;
  showPicture();
  showClasses();
  showMaps();
  $("answer").hidden = false;
}

function showPicture() {
  const values = { values: pixels, height: 32, width: 32 };
  paint($("picture"), values, (i) => [0, 1, 2].map((colour) => pixels[colour * 1024 + i]));
  $("picture").setAttribute("aria-label", "Your picture, as the network gets it");
}

/** All classes, the likeliest first, each with its probability. */
function showClasses() {
  const shares = softmax(answer.logits);
  const order = [...shares.keys()].sort((a, b) => shares[b] - shares[a]);
  const lines = order.map((label) => {
    const line = document.createElement("label");
    const choice = Object.assign(document.createElement("input"), { type: "radio", name: "class" });
    choice.value = label;
    choice.checked = label === order[0];
    choice.addEventListener("change", () => showCam(label));
    const bar = document.createElement("span");
    bar.style.width = `${100 * shares[label]}%`;
    bar.className = "share";
    const number = document.createElement("span");
    number.className = "number";
    number.textContent = percent(shares[label]);
    line.append(choice, network.classes[label], bar, number);
    return line;
  });
  const [legend] = $("classes").children;
  $("classes").replaceChildren(legend, ...lines);
  const [first, second] = order.map(
    (label) => `${network.classes[label]}, ${percent(shares[label])}`,
  );
  $("verdict").textContent = `Its answer: ${first}. Next comes ${second}.`;
  showCam(order[0]);
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

/** The picture in grey; orange where it speaks for the class, blue where it speaks against it. */
function showCam(label) {
  const { height, width } = answer.last;
  const map = classActivation(network, answer.last, label);
  const large = enlarge(map, height, width, SIZE);
  const most = large.reduce((all, value) => Math.max(all, Math.abs(value)), 1e-9);
  paint($("cam"), { height: SIZE, width: SIZE }, (i) => {
    const grey = 0.299 * pixels[i] + 0.587 * pixels[1024 + i] + 0.114 * pixels[2048 + i];
    const colour = large[i] > 0 ? [230, 120, 0] : [0, 114, 178];
    const share = 0.75 * (Math.abs(large[i]) / most);
    return colour.map((part) => part * share + grey * (1 - share));
  });
  const name = network.classes[label];
  const mean = map.reduce((all, value) => all + value) / map.length;
  const bias = answer.logits[label] - mean;
  $("cam-says").textContent =
    `Orange speaks for “${name}”, blue against it. The map is ${height}x${width}; its mean, ` +
    `${mean.toFixed(2)}, and a bias of ${bias.toFixed(2)} make the logit, ${answer.logits[label].toFixed(2)}.`;
  $("cam").setAttribute("aria-label", `What speaks for ${name}, place by place`);
}

/** Enlarge a map to side x side, bilinearly; each number stays amid its own pixels. */
function enlarge(map, height, width, side) {
  const made = new Float32Array(side * side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const [v, u] = [((y + 0.5) * height) / side - 0.5, ((x + 0.5) * width) / side - 0.5];
      const [top, left] = [Math.max(0, Math.floor(v)), Math.max(0, Math.floor(u))];
      const [below, right] = [Math.min(height - 1, top + 1), Math.min(width - 1, left + 1)];
      const [down, over] = [Math.max(0, v - top), Math.max(0, u - left)];
      const row = (at) => map[at * width + left] * (1 - over) + map[at * width + right] * over;
      made[y * side + x] = row(top) * (1 - down) + row(below) * down;
    }
  }
  return made;
}

/** Each part's maps, the first of them where there are many. */
function showMaps() {
  const figures = answer.stages.map(([name, maps]) => {
    const { channels, height, width } = maps;
    const count = Math.min(channels, name.startsWith("block") ? channels : 2 * COLUMNS);
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const some = count < channels ? `${count} of its ${channels}` : `its ${channels}`;
    caption.textContent = `${name}: ${some} maps of ${height}x${width}`;
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Feature maps of ${name}`);
    tile(canvas, maps, count);
    figure.append(caption, canvas);
    return figure;
  });
  $("maps").replaceChildren(...figures);
}

/** Paint maps beside each other, all on one scale, whose ends leave out the most extreme 1 %. */
function tile(canvas, { values, height, width }, count) {
  const area = height * width;
  const sorted = Float32Array.from(values.subarray(0, count * area)).sort();
  const low = sorted[Math.floor(0.005 * (sorted.length - 1))];
  const high = sorted[Math.ceil(0.995 * (sorted.length - 1))];
  const gap = 1;
  const rows = Math.ceil(count / COLUMNS);
  const whole = { width: COLUMNS * (width + gap), height: rows * (height + gap) };
  Object.assign(canvas, whole);
  canvas.style.width = `${COLUMNS * 34}px`;
  const brush = canvas.getContext("2d");
  for (let c = 0; c < count; c++) {
    const image = brush.createImageData(width, height);
    for (let i = 0; i < area; i++) {
      const share = (values[c * area + i] - low) / (high - low || 1);
      image.data.set([...cividis(share), 255], 4 * i);
    }
    brush.putImageData(
      image,
      (c % COLUMNS) * (width + gap),
      Math.floor(c / COLUMNS) * (height + gap),
    );
  }
}

// Nine colours of matplotlib's palette cividis, which reads the same with every kind of colour sight.
const CIVIDIS = [
  [0, 34, 78],
  [26, 56, 111],
  [67, 78, 108],
  [97, 101, 111],
  [125, 124, 120],
  [155, 148, 118],
  [188, 174, 108],
  [222, 201, 88],
  [254, 232, 56],
];

function cividis(share) {
  const place = Math.max(0, Math.min(0.9999, share)) * (CIVIDIS.length - 1);
  const [from, to] = [CIVIDIS[Math.floor(place)], CIVIDIS[Math.floor(place) + 1]];
  return from.map((part, i) => part + (to[i] - part) * (place % 1));
}

/** Paint a small picture on a large canvas. colourAt: place -> [red, green, blue]. */
function paint(canvas, { height, width }, colourAt) {
  const [small, brush] = canvasOf(width, height);
  const image = brush.createImageData(width, height);
  for (let i = 0; i < height * width; i++) image.data.set([...colourAt(i), 255], 4 * i);
  brush.putImageData(image, 0, 0);
  const large = canvas.getContext("2d");
  large.imageSmoothingEnabled = false;
  large.drawImage(small, 0, 0, canvas.width, canvas.height);
}

// What the reader does

function begin() {
  $("answer").hidden = true;
  if (!network) {
    $("file").disabled = true;
    $("problem").textContent =
      "The weights are not here: python tools/explorer.py writes them beside this page.";
    return;
  }
  const share = `${(100 * network.test.accuracy).toFixed(2)} %`;
  $("known").textContent =
    `It knows ${network.classes.length} classes (${network.classes.join(", ")}) and nothing else, ` +
    `so whatever you give it, it answers with one of them. Of ${network.test.images.toLocaleString("en-US")} ` +
    `test photographs it had ${share} right.`;
  $("file").addEventListener("click", (event) => {
    event.target.value = ""; // the same file can be chosen again
  });
  $("file").addEventListener("change", (event) => {
    if (event.target.files.length) take(event.target.files[0]);
  });
  for (const [name, draw] of Object.entries(DRAWINGS)) {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.textContent = name;
    button.addEventListener("click", () => {
      newest++;
      $("file").value = "";
      show(drawn(draw));
    });
    $("drawings").append(button, " ");
  }
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  addEventListener("dragleave", () => $("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    takeFirst(event.dataTransfer);
  });
  addEventListener("paste", (event) => takeFirst(event.clipboardData));
  show(drawn(DRAWINGS["a ship"]));
}

function takeFirst({ files }) {
  if (files.length) take(files[0]);
  else $("problem").textContent = "That was no picture file: choose, drop or paste a PNG or JPEG.";
}

begin();
