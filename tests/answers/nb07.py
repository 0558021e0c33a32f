"""Exercises of notebook 07: right answers written in other ways, and mistakes people make."""

ANSWERS = {
    "7.1": {
        "right": [
            "return (p - p**2) / (error * error)",
            "return (p**0.5 * (1 - p) ** 0.5 / error) ** 2",
            "return torch.tensor(p * (1 - p), dtype=torch.double) * error**-2",
        ],
        "wrong": [
            ("return p * (1 - p) / error", "must be squared"),
            ("return math.sqrt(p * (1 - p)) / error", "square both sides"),
            ("return p / error**2", "p (1 - p)"),
            ("return round(p * (1 - p) / error**2, -4)", "0.0475"),
            ("return [p * (1 - p) / error**2]", "0.0475"),
        ],
    },
    "7.2": {
        "right": [
            "named = confusion.double().sum(0)\nreturn confusion.diag().double() / named",
            "columns = range(len(confusion))\n"
            "named = [int(confusion[:, j].sum()) for j in columns]\n"
            "return [int(confusion[j, j]) / m if m else math.nan for j, m in enumerate(named)]",
            "return (confusion / confusion.sum(dim=0, keepdim=True)).diagonal().numpy()",
        ],
        "wrong": [
            ("return confusion.diagonal() / confusion.sum(dim=1)", "that is recall"),
            ("return confusion.diagonal() / confusion.sum()", "the sum of a column"),
            ("return (confusion.diagonal() / confusion.sum(dim=0)).nan_to_num()", "nan, not 0"),
            ("return confusion.diagonal() / confusion.sum(dim=0).clamp(min=1)", "nan, not 0"),
            ("return (confusion.diagonal() / confusion.sum(dim=0)).mean()", "three numbers"),
            ("return confusion.diagonal()", "1 of 2"),
        ],
    },
    "7.3": {
        "right": [
            "best_T, least = None, math.inf\n"
            "for i in range(200):\n"
            "    T = 0.2 * 25 ** (i / 199)\n"
            "    loss = Evaluation(answers.logits / T, answers.labels).loss\n"
            "    if loss < least:\n"
            "        best_T, least = T, loss\n"
            "return best_T",
            "tried = torch.logspace(math.log10(0.2), math.log10(5), 200)\n"
            "loss = torch.nn.CrossEntropyLoss()\n"
            "losses = [loss(answers.logits / T, answers.labels) for T in tried]\n"
            "return tried[torch.stack(losses).argmin()]",
        ],
        "wrong": [
            (
                "tried = torch.logspace(math.log10(0.2), math.log10(5), 200).tolist()\n"
                "return min(tried, "
                "key=lambda T: Evaluation(answers.logits * T, answers.labels).loss)",
                "divide the logits",
            ),
            (
                "tried = torch.logspace(math.log10(0.2), math.log10(5), 200).tolist()\n"
                "return max(tried, "
                "key=lambda T: Evaluation(answers.logits / T, answers.labels).accuracy)",
                "one accuracy",
            ),
            (
                "tried = [5 - 4.8 * i / 199 for i in range(200)]\n"
                "return max(tried, "
                "key=lambda T: Evaluation(answers.logits / T, answers.labels).accuracy)",
                "largest loss, or the end",
            ),
            ("return 3.0", "half as certain"),
            ("return None", "T near 3"),
        ],
    },
    "7.4": {
        "right": [
            "m, least = b + c, min(b, c)\n"
            "below = sum(math.comb(m, k) for k in range(least + 1)) / 2**m\n"
            "return min(1, 2 * below)",
            "m = b + c\n"
            "far = abs(b - c)\n"
            "return sum(math.comb(m, k) for k in range(m + 1) if abs(2 * k - m) >= far) / 2**m",
        ],
        "wrong": [
            (
                "m = b + c\nreturn sum(math.comb(m, k) for k in range(max(b, c), m + 1)) / 2**m",
                "both directions",
            ),
            (
                "m = b + c\n"
                "tail = sum(math.comb(m, k) for k in range(max(b, c) + 1, m + 1))\n"
                "return min(1, 2 * tail / 2**m)",
                "at least as uneven",
            ),
            ("return 2 * math.comb(b + c, b) / 2 ** (b + c)", "more uneven still"),
            (
                "m = b + c\n"
                "return 2 * sum(math.comb(m, k) for k in range(max(b, c), m + 1)) / 2**m",
                "never more",
            ),
            (
                "m = b + c\n"
                "return min(1, 2 * sum(math.comb(m, k) for k in range(b, m + 1)) / 2**m)",
                "order must not matter",
            ),
        ],
    },
}
