"""The cheat sheet: formulas for maps, sizes, depth, parameters and work, each with an example.

A formula is evaluated as it is printed, and has to give what the library counts on a real network;
otherwise there is no sheet. `tools/site.py` makes a page of it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature

import torch

from densenet_lib.analysis import count_macs, count_parameters, ledger
from densenet_lib.densenet import (
    DenseBlock,
    DenseLayer,
    DenseNet,
    Transition,
    densenet121,
    densenet161,
    densenet169,
    densenet201,
    named_network,
)

NUMBERS = ("layers", "maps in", "maps out", "last maps", "parameters", "MACs", "pixels")
PYTHON = {"²": "**2", "−": "-", "⌊": "int(", "⌋": ")"}
LETTERS = """\
**c** maps come in, of **H** x **W** pixels; **k** is the growth rate, **L** the layers of a block,
**i** one of them, **θ** the compression, **s** the stem's maps, **K** the classes, **n** (and
**m**) the dense layers of each block. ⌊ ⌋ rounds down. Work is in multiply-accumulates (MACs): one
forward pass, one picture, convolutions and classifier alone."""


def evaluate(formula, **values):
    """Return the value of a formula as it is printed, such as `4kc + 36k²`; names are letters."""
    text = re.sub(r"(?<=[\w)⌋])(?=[A-Za-zθ(⌊])", "*", formula)  # 4kc is 4*k*c
    for sign, python in PYTHON.items():
        text = text.replace(sign, python)
    return eval(text, {"__builtins__": {"int": int}}, values)


@dataclass(frozen=True)
class Row:
    """What is counted, its formula, and how the library counts the same."""

    what: str
    formula: str
    count: Callable  # its parameters are letters of the sheet

    def agreed(self, values):
        """Return the number on which formula and library agree for these values of the letters.

        Raises: ValueError if they do not.
        """
        by_formula = evaluate(self.formula, **values)
        counted = self.count(*(values[name] for name in signature(self.count).parameters))
        if by_formula != counted:
            raise ValueError(
                f"cheat sheet, {self.what}: {self.formula} gives {by_formula:,} where the library "
                f"counts {counted:,}, for {values}"
            )
        return counted


def maps_out(module, c, size=32):
    """Return (C, H, W) of what comes out for c maps of size x size."""
    with torch.no_grad():
        return module.to("meta").eval()(torch.empty(1, c, size, size, device="meta")).shape[1:]


def transition(c, θ):
    """Return the transition that a network puts behind c maps."""
    return DenseNet(1, (1, 1), c - 1, compression=θ).features.transition1


def stage(network, name, column="parameters"):
    """Return one number of a network's ledger."""
    return next(getattr(row, column) for row in ledger(network).stages if row.stage == name)


def last_stages(c, K):
    """Return the parameters of last norm and classifier behind c maps."""
    network = DenseNet(1, (1,), c - 1, num_classes=K)
    return stage(network, "last norm") + stage(network, "classifier")


def depth(*blocks, bn_size=4):
    """Return the layers that a network's name counts."""
    return ledger(DenseNet(1, blocks, 2, bn_size)).total.layers


SHEET = {
    "A dense layer": (
        {"c": 24, "k": 12, "H": 32, "W": 32},
        Row("maps out", "k", lambda c, k: maps_out(DenseLayer(c, k), c)[0]),
        Row(
            "parameters",
            "2c + 4kc + 8k + 36k²",
            lambda c, k: count_parameters(DenseLayer(c, k)),
        ),
        Row(
            "without bottleneck",
            "2c + 9kc",
            lambda c, k: count_parameters(DenseLayer(c, k, None)),
        ),
        Row(
            "work",
            "(4kc + 36k²)HW",
            lambda c, k, H, W: count_macs(DenseLayer(c, k), (c, H, W)),
        ),
        Row(
            "without bottleneck",
            "9kcHW",
            lambda c, k, H, W: count_macs(DenseLayer(c, k, None), (c, H, W)),
        ),
    ),
    "A dense block": (
        {"c": 24, "k": 12, "L": 6, "i": 6, "H": 32, "W": 32},
        Row(
            "maps that layer i reads",
            "c + (i − 1)k",
            lambda c, k, i: DenseBlock(i, c, k)[f"denselayer{i}"].norm1.num_features,
        ),
        Row("maps out", "c + Lk", lambda c, k, L: maps_out(DenseBlock(L, c, k), c)[0]),
        Row(
            "connections",
            "L(L + 1)/2",
            lambda L: stage(DenseNet(1, (L,), 2), "denseblock1", "connections"),
        ),
        Row(
            "parameters",
            "L(8k + 36k²) + (2 + 4k)(Lc + kL(L − 1)/2)",
            lambda c, k, L: count_parameters(DenseBlock(L, c, k)),
        ),
        Row(
            "work",
            "(36k²L + 4k(Lc + kL(L − 1)/2))HW",
            lambda c, k, L, H, W: count_macs(DenseBlock(L, c, k), (c, H, W)),
        ),
    ),
    "A transition": (
        {"c": 96, "θ": 0.5, "H": 32, "W": 32},
        Row("maps out", "⌊θc⌋", lambda c, θ: transition(c, θ).conv.out_channels),
        Row("height out", "⌊H/2⌋", lambda H: maps_out(Transition(2, 1), 2, H)[1]),
        Row(
            "parameters",
            "2c + c⌊θc⌋",
            lambda c, θ: count_parameters(transition(c, θ)),
        ),
        Row(
            "work",
            "c⌊θc⌋HW",
            lambda c, θ, H, W: count_macs(transition(c, θ), (c, H, W)),
        ),
    ),
    "Both ends: parameters": (
        {"s": 24, "c": 192, "K": 10},
        Row("stem, 3x3", "27s", lambda s: stage(DenseNet(1, (1,), s, stem="conv"), "stem")),
        Row("stem, 3x3 and norm", "29s", lambda s: stage(DenseNet(1, (1,), s), "stem")),
        Row(
            "stem for ImageNet",
            "149s",
            lambda s: stage(DenseNet(1, (1,), s, stem="imagenet"), "stem"),
        ),
        Row("last norm and classifier", "2c + (c + 1)K", last_stages),
    ),
    "Depth": (
        {"n": 12, "m": 6},
        Row("DenseNet-BC, three blocks", "6n + 4", lambda n: depth(n, n, n)),
        Row("basic DenseNet, three blocks", "3n + 4", lambda n: depth(n, n, n, bn_size=None)),
        Row("two blocks, n and m layers", "2n + 2m + 3", lambda n, m: depth(n, m)),
    ),
}
NETWORKS = {  # name: how it is built, and the size of its pictures
    "this series' own": (DenseNet, 32),
    "DenseNet-40, k = 12": (partial(named_network, "40-12"), 32),
    "DenseNet-100, k = 12": (partial(named_network, "100-12"), 32),
    "DenseNet-100, k = 24": (partial(named_network, "100-24"), 32),
    "DenseNet-BC-100, k = 12": (partial(named_network, "bc-100-12"), 32),
    "DenseNet-BC-250, k = 24": (partial(named_network, "bc-250-24"), 32),
    "DenseNet-BC-190, k = 40": (partial(named_network, "bc-190-40"), 32),
    "DenseNet-121": (densenet121, 224),
    "DenseNet-169": (densenet169, 224),
    "DenseNet-201": (densenet201, 224),
    "DenseNet-161": (densenet161, 224),
}


def page():
    """Return the sheet as Markdown."""
    parts = ["# Cheat sheet", LETTERS]
    for heading, (values, *rows) in SHEET.items():
        example = ", ".join(f"{letter} = {value}" for letter, value in values.items())
        texts = [f"| {row.what} | {row.formula} | {row.agreed(values):,} |" for row in rows]
        parts += [f"## {heading}", table("what", "formula", f"for {example}", rows=texts)]
    parts += ["## Shapes: this series' own network", shapes_table()]
    parts += ["## Networks by name", networks_table()]
    return "\n\n".join(parts)


def table(*heads, rows):
    """Return a Markdown table; columns that hold numbers stand to the right."""
    rule = "|".join(
        "--:" if head in NUMBERS or head.startswith("for ") else "---" for head in heads
    )
    return "\n".join([f"| {' | '.join(heads)} |", f"|{rule}|", *rows])


def shapes_table():
    """Return the ledger of the series' network, a stage a row."""
    account = ledger(DenseNet())
    rows = [
        f"| {row.stage} | {row.layers} | {row.channels_in} | {row.channels_out} | {row.size} | "
        f"{row.parameters:,} | {row.macs:,} |"
        for row in (*account.stages, account.total)
    ]
    heads = ("stage", "layers", "maps in", "maps out", "size out", "parameters", "MACs")
    return table(*heads, rows=rows)


def networks_table():
    """Return what the named networks come to."""
    rows = []
    for name, (build, size) in NETWORKS.items():
        with torch.device("meta"):
            network = build()
        whole = ledger(network, (3, size, size)).total
        numbers = whole.layers, network.classifier.in_features, size, whole.parameters, whole.macs
        rows.append(f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} |")
    return table("network", "layers", "last maps", "pixels", "parameters", "MACs", rows=rows)
