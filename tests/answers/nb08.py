"""Exercises of notebook 08: right answers written in other ways, and mistakes people make."""

ANSWERS = {
    "8.1": {
        "right": [
            "n = 1\n"
            "while sum(36 * k**2 - 5 * k * (maps + i * k) for i in range(n)) >= 0:\n"
            "    n += 1\n"
            "return n",
            "extra = 36 * k**2 - 5 * k * (maps + k * torch.arange(1000))\n"
            "return (extra.cumsum(dim=0) < 0).nonzero()[0, 0] + 1",
            "layers, arriving = 1, maps\n"
            "while arriving * 10 <= 72 * k * layers:\n"
            "    arriving += maps + layers * k\n"
            "    layers += 1\n"
            "return float(layers)",
        ],
        "wrong": [
            (
                "return next(i + 1 for i in range(99) if maps + i * k > 7.2 * k)",
                "what have six cost",
            ),
            (
                "layers, extra = 1, 36 * k**2 - 5 * k * maps\n"
                "while extra > 0:\n"
                "    extra += 36 * k**2 - 5 * k * (maps + layers * k)\n"
                "    layers += 1\n"
                "return layers",
                "which is no saving",
            ),
            (
                "n = 1\n"
                "while sum(36 * k**2 - 5 * k * (maps + i * k) for i in range(1, n + 1)) >= 0:\n"
                "    n += 1\n"
                "return n",
                "the first layer reads",
            ),
            (
                "n = 0\n"
                "while sum(36 * k**2 - 5 * k * (maps + i * k) for i in range(n + 1)) >= 0:\n"
                "    n += 1\n"
                "return n",
                "after 11 layers",
            ),
            ("return 12", "8k maps arrive"),
            ("return None", "twelve layers"),
        ],
    },
    "8.2": {
        "right": [
            "def var(runs):\n"
            "    middle = sum(runs) / 5\n"
            "    return sum((x - middle) ** 2 for x in runs) / 4\n"
            "hits = 0\n"
            "for one in luck.tolist():\n"
            "    a, b = one[:2]\n"
            "    gap = abs(sum(a) - sum(b)) / 5\n"
            "    pooled = math.sqrt(sum(map(var, one)) / 10 * 2 / 5)\n"
            "    own = math.sqrt((var(a) + var(b)) / 5)\n"
            "    paired = math.sqrt(var([x - y for x, y in zip(a, b)]) / 5)\n"
            "    hits += gap > 2.02 * pooled or gap > 2.31 * own or gap > 2.78 * paired\n"
            "return hits / len(luck)",
            "gap = luck[:, 0] - luck[:, 1]\n"
            "errors = torch.stack([\n"
            "    2.02 * (luck.var(dim=2).mean(dim=1) * 2 / 5).sqrt(),\n"
            "    2.31 * (luck[:, :2].var(dim=2).mean(dim=1) * 2 / 5).sqrt(),\n"
            "    2.78 * (gap.var(dim=1) / 5).sqrt(),\n"
            "])\n"
            "return (gap.mean(dim=1).abs() > errors.amin(dim=0)).double().mean()",
        ],
        "wrong": [
            (
                "v, d = luck.var(dim=2), luck[:, 0] - luck[:, 1]\n"
                "gap = d.mean(dim=1).abs()\n"
                "alarms = [gap > 2.02 * (v.mean(dim=1) * 2 / 5).sqrt(),\n"
                "          gap > 2.31 * (v[:, :2].sum(dim=1) / 5).sqrt(),\n"
                "          gap > 2.78 * d.std(dim=1) / 5**0.5]\n"
                "return sum(alarm.double().mean().item() for alarm in alarms)",
                "it counts once",
            ),
            (
                "v, d = luck.var(dim=2), luck[:, 0] - luck[:, 1]\n"
                "gap = d.mean(dim=1)\n"
                "alarm = gap > 2.02 * (v.mean(dim=1) * 2 / 5).sqrt()\n"
                "alarm |= gap > 2.31 * (v[:, :2].sum(dim=1) / 5).sqrt()\n"
                "alarm |= gap > 2.78 * d.std(dim=1) / 5**0.5\n"
                "return alarm.double().mean().item()",
                "behind is a verdict",
            ),
            (
                "v, d = luck.var(dim=2), luck[:, 0] - luck[:, 1]\n"
                "gap = d.mean(dim=1).abs()\n"
                "alarm = gap > 2.02 * (v.mean(dim=1) * 2 / 5).sqrt()\n"
                "alarm &= gap > 2.31 * (v[:, :2].sum(dim=1) / 5).sqrt()\n"
                "alarm &= gap > 2.78 * d.std(dim=1) / 5**0.5\n"
                "return alarm.double().mean().item()",
                "alone decides this one",
            ),
            (
                "v, d = luck.var(dim=2), luck[:, 0] - luck[:, 1]\n"
                "gap = d.mean(dim=1).abs()\n"
                "alarm = gap > 2.02 * (v.mean(dim=1) * 2 / 5).sqrt()\n"
                "alarm |= gap > 2.78 * d.std(dim=1) / 5**0.5\n"
                "return alarm.double().mean().item()",
                "not pooled alone",
            ),
            ("return 0.05", "alone decides this one"),
            ("return None", "alone decides this one"),
        ],
    },
    "8.3": {
        "right": [
            "return math.ceil(2 * (2 * spread / difference) ** 2)",
            "n = 1\nwhile 2 * spread * math.sqrt(2 / n) > difference:\n    n += 1\nreturn n",
            "return float(torch.ceil(torch.tensor((2 * 2**0.5 * spread / difference) ** 2)))",
        ],
        "wrong": [
            ("return math.ceil(4 * (spread / difference) ** 2)", "twice the variance"),
            ("return math.ceil(2 * (spread / difference) ** 2)", "two were asked for"),
            ("return 8 * (spread / difference) ** 2", "round up"),
            ("return round(8 * (spread / difference) ** 2)", "not to the nearest"),
            ("return math.ceil(8 * spread / difference)", "squared"),
            ("return math.ceil(8 * (difference / spread) ** 2)", "many seeds"),
        ],
    },
    "8.4": {
        "right": [
            "return 1 - pooled_factor**2 / paired_factor**2",
            "ratio = torch.tensor(pooled_factor / paired_factor)\nreturn (1 - ratio) * (1 + ratio)",
        ],
        "wrong": [
            ("return 1 - pooled_factor / paired_factor", "square them"),
            ("return (pooled_factor / paired_factor) ** 2", "solve for r"),
            ("return 1 - (paired_factor / pooled_factor) ** 2", "the smaller factor"),
            ("return 'r'", "sqrt(1 - r)"),
        ],
    },
}
