"""Answers to the exercises of notebook 00: right in other words, and mistakes people make."""

ANSWERS = {
    "0.1": {
        "right": [
            "return (labels == labels.mode().values).double().mean()",
            "counts = [int((labels == c).sum()) for c in labels.unique()]\n"
            "return max(counts) / sum(counts)",
        ],
        "wrong": [
            ("return labels.bincount().max().item()", "share"),
            ("return 1 / len(labels.unique())", "three of four"),
            ("return labels.bincount()[0].item() / len(labels)", "not always 0"),
            ("return (labels == labels.median()).double().mean()", "a middle one"),
            ("return 0.75", "ten classes"),
            (  # the line of the text, copied
                "return max((labels == c).float().mean().item() for c in range(len(classes)))",
                "below 10",
            ),
            ("pass", "a share"),
        ],
    },
    "0.2": {
        "right": [
            "import bisect\n"
            "size = lambda k: analysis.count_parameters(DenseNet(growth_rate=k))\n"
            "return bisect.bisect_right(range(1, 100), limit, key=size)",
            "k = 43\nwhile analysis.count_parameters(DenseNet(growth_rate=k)) > limit:\n"
            "    k -= 1\nreturn k",
        ],
        "wrong": [
            (
                "k = 1\nwhile analysis.count_parameters(DenseNet(growth_rate=k)) <= limit:\n"
                "    k += 1\nreturn k",
                "one too many",
            ),
            (
                "k = 1\nwhile analysis.count_parameters(DenseNet(growth_rate=k + 1)) < limit:\n"
                "    k += 1\nreturn k",
                "no more than",
            ),
            ("return 12", "for 11"),
            (
                "count = analysis.count_parameters\n"
                "sizes = [count(DenseNet(growth_rate=k)) for k in range(1, 30)]\n"
                "return sum(size <= limit for size in sizes)",
                "end too early",
            ),
        ],
    },
    "0.3": {
        "right": [
            "rows = analysis.ledger(model).stages\n"
            "values = {row.stage: getattr(row, field) for row in rows}\n"
            "return {name: value / sum(values.values()) for name, value in values.items()}",
            "rows = analysis.ledger(model)\n"
            "whole = vars(rows.total)[field]\n"
            "return dict((row.stage, vars(row)[field] / whole) for row in rows.stages)",
        ],
        "wrong": [
            (
                "return {row.stage: getattr(row, field) for row in analysis.ledger(model).stages}",
                "divide by the total",
            ),
            (
                "ledger = analysis.ledger(model)\n"
                "return {r.stage: r.macs / ledger.total.macs for r in ledger.stages}",
                "field that is asked for",
            ),
            (
                "ledger = analysis.ledger(model)\n"
                "return [getattr(r, field) / ledger.total.macs for r in ledger.stages]",
                "return a dict",
            ),
            (
                "ledger = analysis.ledger(model)\n"
                "return {r.stage: getattr(r, field) / len(ledger.stages) for r in ledger.stages}",
                "divide by the total",
            ),
            (
                "ledger = analysis.ledger(DenseNet())\n"
                "whole = getattr(ledger.total, field)\n"
                "return {row.stage: getattr(row, field) / whole for row in ledger.stages}",
                "another network",
            ),
        ],
    },
}
