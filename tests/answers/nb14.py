"""Exercises of notebook 14: right answers written in other ways, and mistakes people make."""

ANSWERS = {
    "14.1": {
        "right": [
            "seconds = pictures * passes * (macs + 2 * macs) / macs_per_second\n"
            "return seconds / 3600, seconds * watts / 3.6e6",
            "h = 3 * macs / macs_per_second * pictures * passes / 60**2\n"
            "return torch.tensor([h, h * watts / 1000], dtype=torch.float64)",
        ],
        "wrong": [
            (
                "hours = 3 * macs * pictures * passes // macs_per_second // 3600\n"
                "return hours, hours * watts / 1000",
                "an hour and a half",
            ),
            (
                "return 3 * macs * pictures * passes / macs_per_second / 3600",
                "return hours, kilowatt-hours",
            ),
            (
                "hours = macs * pictures * passes / macs_per_second / 3600\n"
                "return hours, hours * watts / 1000",
                "twice the forward one",
            ),
            (
                "seconds = 3 * macs * pictures * passes / macs_per_second\n"
                "return seconds, seconds * watts / 1000",
                "not seconds",
            ),
            (
                "hours = 3 * macs * pictures * passes / macs_per_second / 3600\n"
                "return hours, hours * watts",
                "a thousand watts for an hour",
            ),
            (
                "hours = 3 * macs * pictures / macs_per_second / 3600\n"
                "return hours, hours * watts / 1000",
                "300 passes",
            ),
        ],
    },
    "14.2": {
        "right": [
            "return min(2 * (1 + momentum) / (rate * c) for c in curvatures)",
            "low, high = 0.0, 1000.0\n"
            "for _ in range(50):\n"
            "    middle = (low + high) / 2\n"
            "    largest = 0\n"
            "    for c in curvatures:\n"
            "        w, v = 1.0, 0.0\n"
            "        for _ in range(300):\n"
            "            v = momentum * v + c * w\n"
            "            w = max(-1e9, min(1e9, w - rate * middle * v))\n"
            "        largest = max(largest, abs(w))\n"
            "    low, high = (middle, high) if largest <= 1 else (low, middle)\n"
            "return low",
        ],
        "wrong": [
            ("return 2 / (rate * max(curvatures))", "changes its sign"),
            ("return 2 * (1 - momentum) / (rate * max(curvatures))", "changes its sign"),
            ("return 2 / (1 - momentum) / (rate * max(curvatures))", "too large"),
            ("return 1 / (rate * max(curvatures))", "w jumps, but shrinks"),
            ("return 2 * (1 + momentum) / (rate * min(curvatures))", "steepest direction"),
            (
                "mean_curvature = sum(curvatures) / len(curvatures)\n"
                "return 2 * (1 + momentum) / (rate * mean_curvature)",
                "not their mean",
            ),
            ("return 2 * (1 + momentum) / max(curvatures)", "ten times"),
            ("return None", "ten times"),
        ],
    },
    "14.3": {
        "right": [
            "slope = (math.log(f) - math.log(e)) / (math.log(q) - math.log(p))\n"
            "return math.exp(math.log(p) + (math.log(wanted) - math.log(e)) / slope)",
            "doublings = math.log2(q / p)\n"
            "per_doubling = (f / e) ** (1 / doublings)\n"
            "return p * 2 ** (math.log(wanted / e) / math.log(per_doubling))",
        ],
        "wrong": [
            (
                "return q * (q / p) ** math.log2(f / wanted)",
                "to a third",
            ),
            (
                "slope = (f - e) / (q - p)\nreturn q + (wanted - f) / slope",
                "in passes",
            ),
            ("return q * f / wanted", "with *four* times"),
            (
                "b = math.log(e / f) / math.log(q / p)\nreturn max(p, q * (f / wanted) ** (1 / b))",
                "works backwards",
            ),
            (
                "b = math.log(e / f) / math.log(q / p)\nreturn p * (f / wanted) ** (1 / b)",
                "so 10 at 4",
            ),
        ],
    },
    "14.4": {
        "right": [
            "for s in range(0, len(order), batch_size):\n"
            "    b = order[s : s + batch_size]\n"
            "    n = len(b)\n"
            "    yield b[n * number // processes : n * (number + 1) // processes]",
            "batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]\n"
            "cut = [torch.tensor(batch).tensor_split(processes) for batch in batches]\n"
            "return [parts[number].tolist() for parts in cut]",
            "shares = []\n"
            "while order:\n"
            "    batch, order = order[:batch_size], order[batch_size:]\n"
            "    n = len(batch)\n"
            "    cut = [n * i // processes for i in range(processes + 1)]\n"
            "    shares.append(batch[cut[number] : cut[number + 1]])\n"
            "return shares",
        ],
        "wrong": [
            (
                "shares = []\n"
                "for s in range(0, len(order), batch_size):\n"
                "    b = order[s : s + batch_size]\n"
                "    each = len(b) // processes\n"
                "    end = (number + 1) * each if number < processes - 1 else len(b)\n"
                "    shares.append(b[number * each : end])\n"
                "return shares",
                "differ by one at most",
            ),
            (
                "shares = []\n"
                "for s in range(0, len(order), batch_size):\n"
                "    b = order[s : s + batch_size]\n"
                "    n = len(b)\n"
                "    share = b[n * number // processes : n * (number + 1) // processes]\n"
                "    if share:\n"
                "        shares.append(share)\n"
                "return shares",
                "each gets 2 shares",
            ),
            (
                "batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]\n"
                "return [batch[::processes] for batch in batches]",
                "the same picture",
            ),
            (
                "batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]\n"
                "return [batch[number::processes] for batch in batches]",
                "neighbours",
            ),
            (
                "whole = len(order) // batch_size * batch_size\n"
                "batches = [order[i : i + batch_size] for i in range(0, whole, batch_size)]\n"
                "return [batch[number::processes] for batch in batches]",
                "shares",
            ),
            (
                "mine = order[number::processes]\n"
                "size = -(-len(mine) // -(-len(order) // batch_size))\n"
                "starts = range(0, size * -(-len(order) // batch_size), size)\n"
                "return [mine[start : start + size] for start in starts]",
                "neighbours",
            ),
            (
                "batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]\n"
                "size = batch_size // processes\n"
                "return [batch[number * size : (number + 1) * size] for batch in batches]",
                "differ by one at most",
            ),
            (
                "batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]\n"
                "each = [len(batch) // processes for batch in batches]\n"
                "return [b[number * n : (number + 1) * n] for b, n in zip(batches, each)]",
                "a picture is missing",
            ),
            ("pass", "`return` missing"),
        ],
    },
}
