"""Exercises of notebook 10: right answers written in other ways, and mistakes people make."""

LIFT = "middle, square = b * passes + density, (b * b + 1) * passes + b * density\n"

ANSWERS = {
    "10.1": {
        "right": [
            "layers = 1\nwhile GROWTH ** (layers / 2) <= limit:\n    layers += 1\nreturn layers",
            "return int(math.log(limit, GROWTH**0.5)) + 1.0",
        ],
        "wrong": [
            (
                "return max(n for n in range(1, 50) if GROWTH ** ((n - 1) / 2) <= limit)",
                "too early",
            ),
            ("return math.floor(2 * math.log(limit) / math.log(GROWTH))", "one more"),
            ("return 1 + math.floor(math.log(limit) / math.log(GROWTH))", "of the square"),
            ("return 1 + 2 * math.log(limit) / math.log(GROWTH)", "48 layers"),
            ("return 48", "no step"),
            ("return 1 + round(2 * math.log(limit) / math.log(GROWTH))", "round down"),
        ],
    },
    "10.2": {
        "right": [
            "s = 1.467\n"
            "for i in range(1, sums):\n"
            "    s *= 1 + 1.467 / (v + 0.682 * i)\n"
            "return math.sqrt(s)",
            "square = GROWTH\n"
            "for i in range(1, sums):\n"
            "    square *= 1 + GROWTH / (v + i / GROWTH)\n"
            "return square**0.5",
            "i = torch.arange(1, sums, dtype=torch.float64)\n"
            "return (GROWTH * (1 + GROWTH / (v + i / GROWTH)).prod()).sqrt()",
        ],
        "wrong": [
            (
                "kept = [1 + GROWTH / (1 + i / GROWTH) for i in range(1, sums)]\n"
                "return (GROWTH * math.prod(kept)) ** 0.5",
                "is v in it",
            ),
            (
                "return GROWTH * math.prod(1 + GROWTH / (v + i / GROWTH) for i in range(1, sums))",
                "take the root",
            ),
            (
                "return math.prod(1 + GROWTH / (v + i / GROWTH) for i in range(1, sums)) ** 0.5",
                "is missing",
            ),
            (
                "square = GROWTH\n"
                "for i in range(sums):\n"
                "    square *= 1 + GROWTH / (v + i / GROWTH)\n"
                "return square**0.5",
                "not with l = 0",
            ),
            ("return GROWTH ** ((2 * sums - 1) / 2)", "1.657"),
        ],
    },
    "10.3": {
        "right": [
            "new = list(parts) + [torch.zeros_like(torch.as_tensor(parts[0]))]\n"
            "for j, part in enumerate(parts):\n"
            "    new[j + 1] = new[j + 1] + through(part)\n"
            "return new",
            "n = len(parts)\n"
            "return [\n"
            "    (parts[j] if j < n else 0) + (through(parts[j - 1]) if j else 0)\n"
            "    for j in range(n + 1)\n"
            "]",
        ],
        "wrong": [
            ("return [part + through(part) for part in parts]", "grows by one"),
            ("return [0, *(through(part) for part in parts)]", "what stayed"),
            ("return [*parts, through(parts[-1])]", "5z"),
            ("return sum(parts) + sum(through(part) for part in parts)", "a list"),
            (
                "gone = [through(part) for part in parts]\n"
                "return [a + b for a, b in zip([0, *parts], [*gone, 0])]",
                "stayed is first",
            ),
        ],
    },
    "10.4": {
        "right": [
            LIFT + "return (passes / (square - middle**2)) ** 0.5",
            LIFT + "variance = torch.tensor(square - middle**2)\nreturn (passes / variance).sqrt()",
        ],
        "wrong": [
            (LIFT + "return passes / (square - middle**2)", "take the root"),
            (
                LIFT.replace("b * b", "b") + "return (passes / (square - middle**2)) ** 0.5",
                "is b squared",
            ),
            (LIFT + "return math.sqrt(passes / square)", "less the mean's square"),
            (LIFT + "return math.sqrt(0.5 / (square - middle**2))", "not one half"),
            (LIFT + "return math.sqrt(passes / (square - middle))", "the root of GROWTH"),
        ],
    },
}
