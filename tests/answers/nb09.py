"""Exercises of notebook 09: right answers written in other ways, and mistakes people make."""

ANSWERS = {
    "9.1": {
        "right": [
            "widths = [w] * n + [2 * w] * n + [4 * w] * n\n"
            "pairs = zip([w, *widths[:-1]], widths)\n"
            "return 75 * w + 10 + sum(2 * (a + b) + 9 * b * (a + b) for a, b in pairs)",
            "from densenet_lib.residual import ResidualNet as Net\n"
            "return float(sum(p.numel() for p in Net((n,) * 3, (w, 2 * w, 4 * w)).parameters()))",
        ],
        "wrong": [
            (
                "widths = [w] * n + [2 * w] * n + [4 * w] * n\n"
                "pairs = zip([w, *widths[:-1]], widths)\n"
                "return 67 * w + 10 + sum(layer_parameters(a, b) for a, b in pairs)",
                "last norm",
            ),
            (
                "widths = [w] * n + [2 * w] * n + [4 * w] * n\n"
                "pairs = zip([w, *widths[:-1]], widths)\n"
                "return 48 * w + 10 + sum(layer_parameters(a, b) for a, b in pairs)",
                "stem",
            ),
            (
                "return 75 * w + 10 + n * sum(layer_parameters(c, c) for c in (w, 2 * w, 4 * w))",
                "block before",
            ),
            (
                "widths = [w] * n + [2 * w] * n + [4 * w] * n\n"
                "pairs = zip([w, *widths[:-1]], widths)\n"
                "return 75 * w + sum(layer_parameters(a, b) for a, b in pairs)",
                "bias",
            ),
            ("return None", "269,722"),
        ],
    },
    "9.2": {
        "right": [
            "import bisect\n"
            "macs = lambda w: analysis.count_macs(ResidualNet((n, n, n), (w, 2 * w, 4 * w)))\n"
            "return bisect.bisect_right(range(1, 100), budget, key=macs)",
            "w = 0\n"
            "while True:\n"
            "    wider = ResidualNet((n,) * 3, [(w + 1) * m for m in (1, 2, 4)])\n"
            "    if analysis.count_macs(wider, (3, 32, 32)) > budget:\n"
            "        return float(w)\n"
            "    w += 1",
        ],
        "wrong": [
            (
                "w = 1\n"
                "while analysis.count_macs(ResidualNet((n,) * 3, (w, 2 * w, 4 * w))) <= budget:\n"
                "    w += 1\n"
                "return w",
                "the last that does",
            ),
            (
                "w = 1\n"
                "while analysis.count_macs(ResidualNet((n,) * 3, (w + 1, 2 * w + 2, 4 * w + 4)))"
                " < budget:\n"
                "    w += 1\n"
                "return w",
                "exactly is allowed",
            ),
            (
                "w = 1\n"
                "while analysis.count_macs(ResidualNet((3,) * 3, (w + 1, 2 * w + 2, 4 * w + 4)))"
                " <= budget:\n"
                "    w += 1\n"
                "return w",
                "one layer a block",
            ),
            (
                "fits = [\n"
                "    w for w in range(1, 15)\n"
                "    if analysis.count_macs(ResidualNet((n, n, n), (w, 2 * w, 4 * w))) <= budget\n"
                "]\n"
                "return max(fits)",
                "end too early",
            ),
            ("return None", "12, 24 and 48"),
        ],
    },
    "9.3": {
        "right": [
            "n = len(matrices[0])\n"
            "for i, v in enumerate(matrices):\n"
            "    if (v - v[:, :n].repeat(1, i + 1)).abs().max() > 1e-6:\n"
            "        return None\n"
            "return tuple(v[:, -n:] for v in matrices)",
            "chain = [v.unflatten(1, (-1, len(v))) for v in matrices]\n"
            "alike = all(bool((c.amax(1) - c.amin(1) < 1e-6).all()) for c in chain)\n"
            "return [c.mean(dim=1) for c in chain] if alike else None",
        ],
        "wrong": [
            (
                "chain = []\n"
                "for v in matrices:\n"
                "    p = v.split(len(v), dim=1)\n"
                "    if any(abs(q.sum() - p[0].sum()) > 1e-9 for q in p):\n"
                "        return None\n"
                "    chain.append(p[0])\n"
                "return chain",
                "differs from its others",
            ),
            ("return [v[:, : len(v)] for v in matrices]", "part 0 of layer 1 differs"),
            ("return None", "these are tied"),
            ("return matrices", "3 matrices 2x2"),
            ("return [v[:, : len(v)].T for v in matrices]", "the two chains differ"),
            (
                "return [sum(v.split(len(v), dim=1)) for v in matrices]",
                "the two chains differ",
            ),
            (
                "n = len(matrices[0])\n"
                "if any((v[:, :n] != v[:, -n:]).any() for v in matrices):\n"
                "    return None\n"
                "return [v[:, :n] for v in matrices]",
                "part 1 of layer 2 differs",
            ),
            (
                "n = len(matrices[0])\n"
                "if any((v[:, :n] != v[:, n : 2 * n]).any() for v in matrices[1:]):\n"
                "    return None\n"
                "return [v[:, :n] for v in matrices]",
                "part 3 of layer 3 differs",
            ),
        ],
    },
    "9.4": {
        "right": [
            "ordered = sorted(networks, key=lambda name: (networks[name][1], -networks[name][0]))\n"
            "names, best = [], None\n"
            "for name in ordered:\n"
            "    row = networks[name]\n"
            "    if best is None or row[0] > best[0] or row == best:\n"
            "        names.append(name)\n"
            "        best = row\n"
            "return names",
            "def beats(x, y):\n"
            "    return x[0] >= y[0] and x[1] <= y[1] and (x[0] > y[0] or x[1] < y[1])\n"
            "return {\n"
            "    name for name, row in networks.items()\n"
            "    if not any(beats(other, row) for other in networks.values())\n"
            "}",
        ],
        "wrong": [
            ("return None", "as a set"),
            ("return set(networks)", "ResNet-50 beats DenseNet-121"),
            (
                "return {\n"
                "    name for name, (a, c) in networks.items()\n"
                "    if not any(x > a and y < c for x, y in networks.values())\n"
                "}",
                "c is beaten",
            ),
            (
                "return {\n"
                "    name for name, (a, c) in networks.items()\n"
                "    if not any(x >= a and y < c for x, y in networks.values())\n"
                "}",
                "and so is d",
            ),
            (
                "return {\n"
                "    name for name, (a, c) in networks.items()\n"
                "    if not any(n != name and x >= a and y <= c "
                "for n, (x, y) in networks.items())\n"
                "}",
                "do not beat each other",
            ),
            ("return {min(networks, key=lambda name: networks[name][1])}", "the cheapest"),
        ],
    },
}
