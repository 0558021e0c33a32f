"""Exercises of notebook 03: right answers written in other ways, and mistakes people make."""

BLOCKS = "sizes = [len(m) for m in model.modules() if isinstance(m, library.DenseBlock)]\n"
TRANSLATE = """\
new = dict(state)
for name, values in state.items():
    layer = int(name.removeprefix("denselayer").split(".")[0]) - 1
    order = list(range(layer * growth_rate, layer * growth_rate + in_channels))
    for i in range(layer):
        start = (layer - 1 - i) * growth_rate
        order += range(start, start + growth_rate)
"""

ANSWERS = {
    "3.1": {
        "right": [
            "found = []\n"
            "for part in model.features:\n"
            "    if isinstance(part, library.DenseBlock):\n"
            "        found.append(torch.arange(len(part), 0, -1))\n"
            "return found",
            BLOCKS + "return tuple(\n"
            "    tuple(sum(i < reader for reader in range(1, L + 1)) for i in range(L))\n"
            "    for L in sizes\n"
            ")",
        ],
        "wrong": [
            (BLOCKS + "return list(range(sum(sizes), 0, -1))", "across a transition"),
            (BLOCKS + "return [n for L in sizes for n in range(L, 0, -1)]", "2 blocks"),
            (BLOCKS + "return [list(range(1, L + 1)) for L in sizes]", "how much each layer reads"),
            (BLOCKS + "return [list(range(L, -1, -1)) for L in sizes]", "leave the last"),
            (BLOCKS + "return [list(range(L - 1, -1, -1)) for L in sizes]", "layer 1 reads it"),
            (BLOCKS + "return [L * (L + 1) // 2 for L in sizes]", "not 21"),
            (BLOCKS + "return [[*range(6, 0, -1)], [*range(12, 0, -1)]]", "3 blocks"),
            ("return None", "not None"),
        ],
    },
    "3.2": {
        "right": [
            "return 1 if num_layers == 0 else 2 * count_routes(num_layers - 1)",
            "return 1 << num_layers",
            "routes = torch.ones(1)\n"
            "for _ in range(num_layers):\n"
            "    routes = routes + routes\n"
            "return routes.sum()",
        ],
        "wrong": [
            ("return num_layers + 1", "a block of 2 has 4"),
            ("return num_layers * (num_layers + 1) // 2", "a block of 1 has 2"),
            ("return num_layers**2", "skipped"),
            ("return 2 * num_layers", "a block of 6 has 64, not 12"),
        ],
    },
    "3.3": {
        "right": [
            "cut = ctx.old_channels\nreturn gradient.narrow(1, 0, cut), gradient[:, cut:].clone()",
            "rest = gradient.shape[1] - ctx.old_channels\n"
            "return tuple(gradient.split([ctx.old_channels, rest], dim=1))",
        ],
        "wrong": [
            (
                "return gradient[:, ctx.old_channels :], gradient[:, : ctx.old_channels]",
                "first channels",
            ),
            ("return gradient, gradient", "PyTorch says"),
            ("return gradient[:, : ctx.old_channels]", "PyTorch says"),
            (
                "old, new = gradient[:, : ctx.old_channels], gradient[:, ctx.old_channels :]\n"
                "return old / 2, new / 2",
                "unchanged",
            ),
        ],
    },
    "3.4": {
        "right": [
            TRANSLATE + '    if "norm1" in name and values.dim():\n'
            "        new[name] = values[order]\n"
            '    elif "conv1" in name:\n'
            "        new[name] = values[:, order]\n"
            "return new",
            "new = {}\n"
            "for name, values in state.items():\n"
            '    if "conv1" in name or "norm1" in name:\n'
            "        axis = min(1, max(0, values.dim() - 3))\n"
            "        pieces = []\n"
            "        while values.dim() and values.shape[axis] > in_channels:\n"
            "            rest = values.shape[axis] - growth_rate\n"
            "            piece, values = values.split([growth_rate, rest], dim=axis)\n"
            "            pieces.insert(0, piece)\n"
            "        if pieces:\n"
            "            values = torch.cat([values, *pieces], dim=axis)\n"
            "    new[name] = values\n"
            "return new",
            TRANSLATE + '    if "norm1" in name and values.dim():\n'
            "        values.copy_(values[order].clone())\n"
            '    elif "conv1" in name:\n'
            "        values.copy_(values[:, order].clone())\n"
            "return state",
        ],
        "wrong": [
            (TRANSLATE + "return state", "norm1.weight is in the old order"),
            (
                TRANSLATE + '    if "norm1.weight" in name or "norm1.bias" in name:\n'
                "        new[name] = values[order]\n"
                '    elif "conv1" in name:\n'
                "        new[name] = values[:, order]\n"
                "return new",
                "norm1.running_mean is in the old order",
            ),
            (
                TRANSLATE + '    if "norm1" in name and values.dim():\n'
                "        new[name] = values[order]\n"
                "return new",
                "conv1.weight is in the old order",
            ),
            (
                TRANSLATE + '    if "norm1" in name and values.dim():\n'
                "        new[name] = values.flip(0)\n"
                '    elif "conv1" in name:\n'
                "        new[name] = values.flip(1)\n"
                "return new",
                "not the channels in them",
            ),
            ("return None", "all names"),
        ],
    },
}
