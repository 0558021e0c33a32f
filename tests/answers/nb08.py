"""Exercises of notebook 08: right answers written in other ways, and mistakes people make."""

ANSWERS = {
    "8.1": {
        "right": [
            "total, c = 0, maps\n"
            "for _ in range(layers):\n"
            "    total += pixels * (4 * k * c + 36 * k * k - 9 * k * c)\n"
            "    c += k\n"
            "return total",
            "mean_maps = maps + k * (layers - 1) / 2\n"
            "return pixels * layers * (36.0 * k**2 - 5 * k * mean_maps)",
            "c = maps + k * torch.arange(layers)\nreturn pixels * (36 * k**2 - 5 * k * c).sum()",
        ],
        "wrong": [
            (
                "return pixels * layers * (36 * k**2 - 5 * k * maps)",
                "the second layer reads k maps",
            ),
            (
                "return pixels * sum(4 * k * (maps + i * k) + 36 * k**2 for i in range(layers))",
                "subtract 9kc",
            ),
            ("return sum(36 * k**2 - 5 * k * (maps + i * k) for i in range(layers))", "pixel"),
            (
                "return pixels * sum(5 * k * (maps + i * k) - 36 * k**2 for i in range(layers))",
                "minus without",
            ),
            (
                "return pixels * sum(abs(36 * k**2 - 5 * k * (maps + i * k)) "
                "for i in range(layers))",
                "negative",
            ),
            ("return None", "one layer"),
        ],
    },
    "8.2": {
        "right": [
            "n = 0\n"
            "while analysis.count_parameters("
            "build(growth_rate, (n + 1, n + 1, n + 1), bottleneck, compression)) <= budget:\n"
            "    n += 1\n"
            "return n",
            "sizes = [\n"
            "    analysis.count_parameters(build(growth_rate, [n] * 3, bottleneck, compression))\n"
            "    for n in range(1, 15)\n"
            "]\n"
            "return torch.tensor(sizes).le(budget).sum()",
        ],
        "wrong": [
            (
                "n = 1\n"
                "while analysis.count_parameters("
                "build(growth_rate, (n,) * 3, bottleneck, compression)) <= budget:\n"
                "    n += 1\n"
                "return n",
                "one too many",
            ),
            (
                "n = 1\n"
                "while analysis.count_parameters("
                "build(growth_rate, (n + 1,) * 3, bottleneck, compression)) < budget:\n"
                "    n += 1\n"
                "return n",
                "exactly",
            ),
            (
                "n = 1\n"
                "while analysis.count_parameters("
                "build(growth_rate, (n + 1,) * 3, bottleneck, 1.0)) <= budget:\n"
                "    n += 1\n"
                "return n",
                "with compression",
            ),
            (
                "n = 1\n"
                "while analysis.count_parameters("
                "build(8, (n + 1,) * 3, bottleneck, compression)) <= budget:\n"
                "    n += 1\n"
                "return n",
                "growth rate 4",
            ),
            (
                "n = 1\n"
                "while analysis.count_parameters("
                "build(growth_rate, (n + 1,) * 3, bottleneck, compression)) <= budget:\n"
                "    n += 1\n"
                "return n",
                "too little for one layer",
            ),
            ("return '4'", "exactly"),
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
