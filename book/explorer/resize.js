"use strict";
// Pictures of any size to 32x32, as densenet_lib/data/folders.py does it with pillow: the middle
// square, then a bicubic filter that is as wide as what one new pixel covers. The sums are of whole
// numbers, rounded as pillow's are, so the bytes are the same. (From version 13 on pillow shrinks the
// height of a tall picture first, not last as here, so there they may differ a little.)

const SIZE = 32;
const ONE = 2 ** 22; // pillow's coefficients are whole multiples of 1 / ONE

const BAND = 256; // rows at a time: a phone has no canvas as large as its photographs

/**
 * A picture to bytes (3, SIZE, SIZE), red first.
 * rowsFrom(top, rows): the pixels (red, green, blue, alpha) of some of its rows.
 */
function fit({ width, height, rowsFrom }) {
  const side = Math.min(width, height);
  const across = coefficients(width, (width - side) / 2, side);
  const down = coefficients(height, (height - side) / 2, side);
  const last = down[SIZE - 1].begin + down[SIZE - 1].parts.length;
  const made = new Uint8ClampedArray(3 * SIZE * SIZE);
  const rows = new Uint8ClampedArray(3 * SIZE * height); // their columns done
  for (let top = down[0].begin; top < last; top += BAND) {
    const end = Math.min(last, top + BAND);
    const data = rowsFrom(top, end - top);
    for (let colour = 0; colour < 3; colour++) {
      for (let y = top; y < end; y++) {
        for (let x = 0; x < SIZE; x++) {
          const place = (colour * height + y) * SIZE + x;
          rows[place] = weigh(across[x], (i) => data[4 * ((y - top) * width + i) + colour]);
        }
      }
    }
  }
  for (let colour = 0; colour < 3; colour++) {
    for (let y = 0; y < SIZE; y++) {
      for (let x = 0; x < SIZE; x++) {
        const place = (colour * SIZE + y) * SIZE + x;
        made[place] = weigh(down[y], (i) => rows[(colour * height + i) * SIZE + x]);
      }
    }
  }
  return made;
}

function weigh({ begin, parts }, value) {
  let whole = ONE / 2;
  for (let i = 0; i < parts.length; i++) whole += parts[i] * value(begin + i);
  return Math.floor(whole / ONE); // the array that it goes into cuts it off at 0 and 255
}

/** For each of SIZE new pixels: where its old ones begin, and what part each of them has. */
function coefficients(length, from, side) {
  const step = side / SIZE;
  const wide = Math.max(1, step);
  return Array.from({ length: SIZE }, (_, i) => {
    const centre = from + (i + 0.5) * step;
    const begin = Math.max(0, Math.trunc(centre - 2 * wide + 0.5));
    const end = Math.min(length, Math.trunc(centre + 2 * wide + 0.5));
    const parts = [];
    for (let x = begin; x < end; x++) parts.push(bicubic((x - centre + 0.5) / wide));
    const all = parts.reduce((whole, part) => whole + part);
    return { begin, parts: parts.map((part) => round((part / all) * ONE)) };
  });
}

function round(number) {
  return Math.trunc(number + (number < 0 ? -0.5 : 0.5));
}

function bicubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}
