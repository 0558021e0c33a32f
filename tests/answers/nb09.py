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
            "best = [torch.randn(20_000, n).max(dim=1).values.mean() for n in (ours, theirs)]\n"
            "return spread * (best[0] - best[1])",
            "import random\n\n"
            "leads = []\n"
            "for _ in range(20_000):\n"
            "    mine = max(random.gauss(61, spread) for _ in range(ours))\n"
            "    leads.append(mine - max(random.gauss(61, spread) for _ in range(theirs)))\n"
            "return sum(leads) / len(leads)",
            "from statistics import NormalDist\n\n"
            "def best(n):\n"
            "    return NormalDist().inv_cdf((n - 0.375) / (n + 0.25))  # as in notebook 16\n\n"
            "return spread * (best(ours) - best(theirs))",
        ],
        "wrong": [
            (
                "return spread * torch.randn(20_000, ours).amax(dim=1).mean().item()",
                "quotes its best, too",
            ),
            (
                "one, other = torch.randn(20_000, ours), torch.randn(20_000, theirs)\n"
                "return spread * (one.amax(dim=1) - other.amin(dim=1)).mean().item()",
                "not their worst",
            ),
            (
                "one, other = torch.randn(20_000, ours), torch.randn(20_000, theirs)\n"
                "return spread**0.5 * (one.amax(dim=1) - other.amax(dim=1)).mean().item()",
                "four times the lead",
            ),
            (
                "one, other = torch.randn(20_000, ours), torch.randn(20_000, theirs)\n"
                "return spread * (one.amax(dim=1) - other.amax(dim=1)).mean().abs().item()",
                "is behind",
            ),
            (
                "return spread * (math.sqrt(2 * math.log(ours)) - math.sqrt(2 * math.log(theirs)))",
                "0.56 spreads",
            ),
            ("return 0", "0.56 spreads"),
            ("return None", "return points"),
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
            (  # equal from end to end, not layer by layer
                "pieces, chain = [torch.eye(len(matrices[0]), dtype=torch.float64)], []\n"
                "for v in matrices:\n"
                "    whole = v @ torch.cat(pieces)\n"
                "    chain.append(whole @ sum(pieces).inverse())\n"
                "    pieces.append(whole)\n"
                "return chain",
                "part 0 of layer 1 differs",
            ),
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
