"use strict";
// Questions to predict, then to look at. An answer is counted when the page opens, from the totals
// of two ledgers: before the change, and after it.

const BC_100 = NAMED.find(({ name }) => name === "DenseNet-BC-100, k = 12").network;

const QUESTIONS = [
  {
    ask:
      "Double the growth rate of this series' network, from 12 to 24. Its blocks keep their " +
      "layers. Will it have twice the parameters, three times, four times?",
    from: ORIGIN,
    change: { growthRate: 24 },
    answer: (before, after) =>
      `${times(after.parameters, before.parameters)} times: ${exactly(before.parameters)} become ` +
      `${exactly(after.parameters)}. Each layer makes twice the maps, and reads nearly twice; four ` +
      "times would need a stem that makes twice as many, too.",
  },
  {
    ask: "Take the bottlenecks out of this series' network. Does a picture cost more work, or less?",
    from: ORIGIN,
    change: { bottleneck: null },
    answer: (before, after) =>
      `${after.macs < before.macs ? "Less" : "More"}: ${exactly(after.macs)} multiply-accumulates ` +
      `instead of ${exactly(before.macs)}. Most of its layers read too few maps for a bottleneck ` +
      `to pay. (The depth is counted otherwise then: ${after.layers} instead of ${before.layers}.)`,
  },
  {
    ask: "Now the same with DenseNet-BC-100, k = 12: more work, or less?",
    from: BC_100,
    change: { bottleneck: null },
    answer: (before, after) =>
      `${after.macs < before.macs ? "Less" : "More"}: ${exactly(after.macs)} instead of ` +
      `${exactly(before.macs)}. Its blocks are longer, so most of its layers read more maps than ` +
      `${decimal(breakEven(BC_100.growthRate, 4))}.`,
  },
  {
    ask:
      "DenseNet-BC-100 without compression: its transitions keep all maps. What becomes of the " +
      "parameters?",
    from: BC_100,
    change: { compression: 1 },
    answer: (before, after) =>
      `${times(after.parameters, before.parameters)} times as many, ${exactly(after.parameters)}: ` +
      "every later layer reads what earlier blocks have made, at full number. See the staircase.",
  },
  {
    ask:
      "Twice as many layers in each block of DenseNet-BC-100. How many times as many bytes does " +
      "training keep, plain and efficient?",
    from: BC_100,
    change: { blocks: BC_100.blocks.map((count) => 2 * count) },
    answer: (before, after) =>
      `Plain ${times(after.activationBytes, before.activationBytes)} times, efficient ` +
      `${times(after.efficientBytes, before.efficientBytes)} times: the copies grow with the ` +
      "square of a block's length, the maps themselves do not.",
  },
  {
    ask: "Pictures of 64x64 instead of 32x32. What grows four times, and what not at all?",
    from: ORIGIN,
    change: { size: 64 },
    answer: (before, after) =>
      `The work, ${times(after.macs, before.macs)} times, and the bytes, ` +
      `${times(after.activationBytes, before.activationBytes)} times. The parameters stay ` +
      `${exactly(after.parameters)}: a convolution has the same weights at every place.`,
  },
];

/** How many times: 3.48, 2.0, 0.0065. */
function times(after, before) {
  const ratio = after / before;
  return ratio < 0.1 ? String(Number(ratio.toPrecision(2))) : ratio.toFixed(2).replace(/0$/, "");
}

/** Each question with a link to the changed network, and its answer, folded. */
function showQuestions(list, batch) {
  const items = QUESTIONS.map(({ ask, from, change, answer }) => {
    const changed = { ...from, ...change };
    const address = toAddress({ ...asChoice(changed), batch });
    const text = answer(ledger(from).total, ledger(changed).total);
    const folded = html("details", {}, html("summary", {}, "Answer"), html("p", {}, text));
    return html("li", {}, ask + " ", html("a", { href: address }, "See it"), folded);
  });
  list.replaceChildren(...items);
}
