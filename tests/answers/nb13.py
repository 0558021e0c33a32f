"""Exercises of notebook 13: right answers written in other ways, and mistakes people make."""

ANSWERS = {
    "13.1": {
        "right": [
            "plain, once, L = 0, C, 0\n"
            "while L == 0 or plain < times * once:\n"
            "    plain += 2 * once  # the next layer reads all that there is\n"
            "    once += k\n"
            "    L += 1\n"
            "return float(L)",
            "L = torch.arange(1, 1000)\n"
            "plain = L * (2 * C + k * (L - 1))\n"
            "return L[plain >= times * (C + k * L)][0]",
            "def keeps(L):\n"
            "    return 8 * sum(C + i * k for i in range(L)) / (4 * (C + L * k))\n"
            "return next(L for L in range(1, 1000) if keeps(L) >= times)",
        ],
        "wrong": [
            (
                "L = 1\n"
                "while sum(C + i * k for i in range(L)) < times * (C + L * k):\n"
                "    L += 1\n"
                "return L",
                "two copies",
            ),
            (
                "L = 1\n"
                "while 2 * sum(C + i * k for i in range(1, L + 1)) < times * (C + L * k):\n"
                "    L += 1\n"
                "return L",
                "layer 0 reads C",
            ),
            (
                "L = 1\n"
                "while 2 * sum(C + i * k for i in range(L)) < times * L * k:\n"
                "    L += 1\n"
                "return L",
                "what came in as well",
            ),
            (
                "L = 1\n"
                "while 2 * sum(C + i * k for i in range(L + 1)) < times * (C + L * k + k):\n"
                "    L += 1\n"
                "return L",
                "not yet ten",
            ),
            (
                "L = 1\n"
                "while 2 * sum(C + i * k for i in range(L)) <= times * (C + L * k):\n"
                "    L += 1\n"
                "return L",
                "exactly 5 times",
            ),
            ("return times", "C = 64"),
            ("return None", "10 layers, not None"),
        ],
    },
    "13.2": {
        "right": [
            "ratio = next_weight / weight\n"
            "return first * wide(ratio) + wide(next_bias - bias * ratio)",
            "first -= wide(bias)\n"
            "first *= wide(next_weight / weight)\n"
            "first += wide(next_bias)\n"
            "return first",
            "maps = []\n"
            "for c in range(first.shape[1]):\n"
            "    normal = (first[:, c] - bias[c]) / weight[c]\n"
            "    maps.append(normal * next_weight[c] + next_bias[c])\n"
            "return torch.stack(maps, dim=1)",
        ],
        "wrong": [
            (
                "return F.batch_norm(first, None, None, next_weight, next_bias, training=True)",
                "sign of the weight",
            ),
            (
                "return first * wide(next_weight / weight) + wide(next_bias)",
                "bias away",
            ),
            (
                "return (first - wide(bias)) * wide(weight / next_weight) + wide(next_bias)",
                "see hint 2",
            ),
            (
                "return (first - bias) / weight * next_weight + next_bias",
                "is it wide",
            ),
            (
                "return ((first - wide(bias)) / wide(weight) * wide(next_weight)"
                " + wide(next_bias)).relu()",
                "see hint 2",
            ),
            ("return None", "return maps"),
        ],
    },
    "13.3": {
        "right": [
            "i = (x.square().mean() + eps).rsqrt()\n"
            "dot = (g * x).sum()\n"
            "g *= weight * i\n"
            "g -= weight * i**3 * dot * x / len(x)\n"
            "return g",
            "i = 1 / ((x @ x) / len(x) + eps).sqrt()\n"
            "return weight * i * (g - x * i**2 * (g @ x) / len(x))",
            "i = (x.square().mean() + eps).rsqrt()\n"
            "jacobian = weight * (i * torch.eye(len(x)) - i**3 * torch.outer(x, x) / len(x))\n"
            "return jacobian.double() @ g",
        ],
        "wrong": [
            ("return g * weight / (x.square().mean() + eps).sqrt()", "through s is missing"),
            (
                "i = 1 / (x.square().mean() + eps).sqrt()\n"
                "normal = x * i\n"
                "return weight * i * (g - g.mean() - normal * (g * normal).mean())",
                "not autograd's",
            ),
            (
                "i = 1 / (x.square().sum() + eps).sqrt()\n"
                "return weight * i * (g - x * i**2 * (g * x).mean())",
                "not autograd's",
            ),
            (
                "i = 1 / (x.square().mean() + 1e-5).sqrt()\n"
                "return weight * i * (g - x * i**2 * (g * x).mean())",
                "not autograd's",
            ),
            (
                "i = 1 / (x.square().mean() + eps).sqrt()\n"
                "return weight * i * (g - 2 * x * i**2 * (g * x).mean())",
                "not autograd's",
            ),
        ],
    },
    "13.4": {
        "right": [
            "s = norm.weight / (norm.running_var + norm.eps).sqrt()\n"
            "kernel = conv.weight\n"
            "kernel *= s.view(-1, 1, 1, 1)\n"
            "return kernel, norm.bias - norm.running_mean * s",
            "i = torch.rsqrt(norm.running_var + norm.eps)\n"
            "kernel = conv.weight * (norm.weight * i)[:, None, None, None]\n"
            "return [kernel, norm.bias - norm.weight * norm.running_mean * i]",
            "scale = norm.weight / (norm.running_var + norm.eps).sqrt()\n"
            "kernel = torch.einsum('oihw,o->oihw', conv.weight, scale)\n"
            "return kernel, norm.bias - scale * norm.running_mean",
        ],
        "wrong": [
            (
                "s = norm.weight / (norm.running_var + 1e-5).sqrt()\n"
                "return conv.weight * s.view(-1, 1, 1, 1), norm.bias - norm.running_mean * s",
                "with eps?",
            ),
            (
                "scale = norm.weight / (norm.running_var + norm.eps).sqrt()\n"
                "return conv.weight * scale.view(-1, 1, 1, 1), norm.bias",
                "running mean",
            ),
            (
                "scale = norm.weight / (norm.running_var + norm.eps).sqrt()\n"
                "return conv.weight, norm.bias - norm.running_mean * scale",
                "scale the kernel",
            ),
            (
                "return conv.weight * norm.weight.view(-1, 1, 1, 1), norm.bias - norm.running_mean",
                "not equal",
            ),
            ("return conv.weight.flatten(1), norm.bias - norm.running_mean", "keeps its shape"),
            ("return None, None", "keeps its shape"),
            ("return conv.weight, 0.0", "one number for each map"),
        ],
    },
}
