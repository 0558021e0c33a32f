"""Exercises of notebook 11: right answers written in other ways, and mistakes people make."""

ANSWERS = {
    "11.1": {
        "right": [
            "weights = out * window * window * maps\nreturn weights + 2 * maps",
            "return float(maps * out * window**2 + maps + maps)",
        ],
        "wrong": [
            ("return maps * out * window**2", "the norm has two"),
            ("return maps * (out * window**2 + 1)", "scale and bias"),
            ("return maps * (out * window + 2)", "window²"),
            ("return out * window**2 + 2", "maps to"),
            ("return None", "maps to"),
        ],
    },
    "11.2": {
        "right": [
            "v = torch.tensor(values, dtype=torch.float64).clamp(min=0)\n"
            "return v.sum() ** 2 / v.square().sum() if v.any() else 0",
            "kept = [v for v in values if v > 0]\n"
            "return sum(kept) ** 2 / sum(v * v for v in kept) if kept else 0.0",
        ],
        "wrong": [
            (
                "if sum(values) <= 0:\n"
                "    return 0\n"
                "v = [max(x, 0) for x in values]\n"
                "return sum(v) ** 2 / sum(x * x for x in v)",
                "clamp each",
            ),
            (
                "v = [max(x, 0) for x in values]\n"
                "return sum(v) ** 2 / (sum(x * x for x in v) + 1e-8)",
                "small values",
            ),
            ("return len([v for v in values if v > 0])", "(2 + 1 + 1)"),
            ("return sum(values) ** 2 / sum(v**2 for v in values)", "below 0"),
            ("return sum(values) / max(values)", "(2 + 1 + 1)"),
            (
                "kept = [max(v, 0) for v in values]\n"
                "return sum(kept) ** 2 / sum(v * v for v in kept)",
                "uses nothing",
            ),
        ],
    },
    "11.3": {
        "right": [
            "s = scale.abs()\nreturn [scale / s, bias / s, weight * s[:, None, None]]",
            "s = (scale**2).sqrt()\n"
            "return torch.sign(scale), bias / s, torch.einsum('oihw,i->oihw', weight, s)",
        ],
        "wrong": [
            (
                "return torch.ones_like(scale), bias / scale, weight * scale.view(1, -1, 1, 1)",
                "keep each sign",
            ),
            ("return scale.sign(), bias, weight * scale.abs().view(1, -1, 1, 1)", "the bias"),
            ("return scale.sign(), bias / scale.abs(), weight", "not the same function"),
            (
                "s = scale.abs()\nreturn scale.sign(), bias / s, weight / s.view(1, -1, 1, 1)",
                "not the same function",
            ),
            ("return scale, bias, weight", "1 or -1"),
            ("return scale.sign(), bias / scale.abs()", "return scale, bias, weight"),
            ("return 1, bias, weight", "a shape of"),
        ],
    },
    "11.4": {
        "right": [
            "parts = list(maps.split(1, dim=1))\n"
            "for c in range(first, last):\n"
            "    parts[c] = torch.full_like(parts[c], parts[c].mean().item())\n"
            "return torch.cat(parts, dim=1)",
            "middle = maps.mean(dim=(0, 2, 3), keepdim=True).expand_as(maps)\n"
            "new = torch.cat([maps[:, :first], middle[:, first:last], maps[:, last:]], dim=1)\n"
            "return new",
        ],
        "wrong": [
            (
                "maps[:, first:last] = maps[:, first:last].mean(dim=(0, 2, 3), keepdim=True)\n"
                "return maps",
                "work on a clone",
            ),
            ("copied = maps.clone()\ncopied[:, first:last] = 0\nreturn copied", "silence"),
            (
                "copied = maps.clone()\n"
                "copied[:, first:last] = maps[:, first:last].mean(dim=(2, 3), keepdim=True)\n"
                "return copied",
                "one number a map",
            ),
            (
                "copied = maps.clone()\ncopied[:, first:last] = maps[:, first:last].mean()\n"
                "return copied",
                "a map each",
            ),
            ("return maps.mean(dim=(0, 2, 3), keepdim=True).expand_as(maps)", "other channels"),
            ("return maps[:, first:last].mean(dim=(0, 2, 3))", "the shape stays"),
        ],
    },
}
