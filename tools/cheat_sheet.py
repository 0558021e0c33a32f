"""The cheat sheet: formulas for maps, sizes, depth, parameters and work, each with an example.

A formula is evaluated as it is printed, and has to give what the library counts on a real network;
otherwise there is no sheet. `tools/site.py` makes a page of it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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

NUMBERS = ("example", "layers", "maps in", "maps out", "last maps", "parameters", "MACs", "pixels")
PYTHON = {"²": "**2", "−": "-", "⌊": "int(", "⌋": ")"}
LETTERS = """\
**c** maps come in, of **H** x **W** pixels; **k** is the growth rate, **L** the layers of a block, **i** one of them, **θ**
the compression, **s** the stem's maps, **K** the classes, **n** (and **m**) the dense layers of each block. ⌊ ⌋ rounds
down. Work is in multiply-accumulates (MACs): one forward pass, one picture, convolutions and classifier alone."""


def evaluate(formula, **values):
    """Return the value of a formula as it is printed, such as `4kc + 36k²`; names are letters."""
    text = re.sub(r"(?<=[\w)⌋])(?=[A-Za-zθ(⌊])", "*", formula)  # 4kc is 4*k*c
    for sign, python in PYTHON.items():
        text = text.replace(sign, python)
    return eval(text, {"__builtins__": {"int": int}}, values)


@dataclass(frozen=True)
class Row:
    """What is counted, its formula, an example, and how the library counts the same."""

    what: str
    formula: str
    example: dict
    count: Callable  # is given the example's values by name

    def agreed(self, **values):
        """Return the number that formula and library agree on.

        Raises: ValueError if they do not.
        """
        by_formula, counted = evaluate(self.formula, **values), self.count(**values)
        if by_formula != counted:
            raise ValueError(
                f"cheat sheet, {self.what}: {self.formula} gives {by_formula:,} where the library "
                f"counts {counted:,}, for {values}"
            )
        return counted

    def __str__(self):
        values = ", ".join(f"{name} = {value}" for name, value in self.example.items())
        return f"| {self.what} | {self.formula} | {self.agreed(**self.example):,} | {values} |"


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


LAYER, BLOCK = {"c": 24, "k": 12}, {"c": 24, "k": 12, "L": 6}
SIZE = {"H": 32, "W": 32}


SHEET = {
    "A dense layer": (
        Row("maps out", "k", LAYER, lambda c, k: maps_out(DenseLayer(c, k), c)[0]),
        Row(
            "parameters",
            "2c + 4kc + 8k + 36k²",
            LAYER,
            lambda c, k: count_parameters(DenseLayer(c, k)),
        ),
        Row(
            "the same without bottleneck",
            "2c + 9kc",
            LAYER,
            lambda c, k: count_parameters(DenseLayer(c, k, None)),
        ),
        Row(
            "work",
            "(4kc + 36k²)HW",
            LAYER | SIZE,
            lambda c, k, H, W: count_macs(DenseLayer(c, k), (c, H, W)),
        ),
        Row(
            "the same without bottleneck",
            "9kcHW",
            LAYER | SIZE,
            lambda c, k, H, W: count_macs(DenseLayer(c, k, None), (c, H, W)),
        ),
    ),
    "A dense block": (
        Row(
            "maps that layer i reads",
            "c + (i − 1)k",
            {"c": 24, "k": 12, "i": 6},
            lambda c, k, i: DenseBlock(i, c, k)[f"denselayer{i}"].norm1.num_features,
        ),
        Row("maps out", "c + Lk", BLOCK, lambda c, k, L: maps_out(DenseBlock(L, c, k), c)[0]),
        Row(
            "connections",
            "L(L + 1)/2",
            {"L": 6},
            lambda L: stage(DenseNet(1, (L,), 2), "denseblock1", "connections"),
        ),
        Row(
            "parameters",
            "L(8k + 36k²) + (2 + 4k)(Lc + kL(L − 1)/2)",
            BLOCK,
            lambda c, k, L: count_parameters(DenseBlock(L, c, k)),
        ),
        Row(
            "work",
            "(36k²L + 4k(Lc + kL(L − 1)/2))HW",
            BLOCK | SIZE,
            lambda c, k, L, H, W: count_macs(DenseBlock(L, c, k), (c, H, W)),
        ),
    ),
    "A transition": (
        Row("maps out", "⌊θc⌋", {"c": 96, "θ": 0.5}, lambda c, θ: transition(c, θ).conv.out_channels),
        Row("height out", "⌊H/2⌋", {"H": 32}, lambda H: maps_out(Transition(2, 1), 2, H)[1]),
        Row(
            "parameters",
            "2c + c⌊θc⌋",
            {"c": 96, "θ": 0.5},
            lambda c, θ: count_parameters(transition(c, θ)),
        ),
        Row(
            "work",
            "c⌊θc⌋HW",
            {"c": 96, "θ": 0.5} | SIZE,
            lambda c, θ, H, W: count_macs(transition(c, θ), (c, H, W)),
        ),
    ),
    "Both ends: parameters": (
        Row("stem, 3x3", "27s", {"s": 24}, lambda s: stage(DenseNet(1, (1,), s, stem="conv"), "stem")),
        Row("stem, 3x3 and norm", "29s", {"s": 24}, lambda s: stage(DenseNet(1, (1,), s), "stem")),
        Row(
            "stem for ImageNet",
            "149s",
            {"s": 64},
            lambda s: stage(DenseNet(1, (1,), s, stem="imagenet"), "stem"),
        ),
        Row("last norm and classifier", "2c + (c + 1)K", {"c": 192, "K": 10}, last_stages),
    ),
    "Depth": (
        Row("DenseNet-BC", "6n + 4", {"n": 16}, lambda n: depth(n, n, n)),
        Row("basic DenseNet", "3n + 4", {"n": 12}, lambda n: depth(n, n, n, bn_size=None)),
        Row("two unequal blocks", "2n + 2m + 3", {"n": 6, "m": 12}, lambda n, m: depth(n, m)),
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
    for heading, rows in SHEET.items():
        parts += [f"## {heading}", table("what", "formula", "example", "for", rows=rows)]
    parts += ["## Shapes: this series' own network", shapes_table()]
    parts += ["## Networks by name", networks_table()]
    return "\n\n".join(parts)


def table(*heads, rows):
    """Return a Markdown table; all columns but the first to the right where they hold numbers."""
    rule = "|".join("--:" if head in NUMBERS else "---" for head in heads)
    return "\n".join([f"| {' | '.join(heads)} |", f"|{rule}|", *map(str, rows)])


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
        last = network.classifier.in_features
        rows.append(
            f"| {name} | {whole.layers} | {last:,} | {size} | {whole.parameters:,} | {whole.macs:,} |"
        )
    return table("network", "layers", "last maps", "pixels", "parameters", "MACs", rows=rows)
