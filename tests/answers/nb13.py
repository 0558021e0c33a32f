"""Exercises of notebook 13: right answers written in other ways, and mistakes people make."""

ANSWERS = {
    "13.1": {
        "right": [
            "maps = L * C + k * L * (L - 1) / 2\n"
            "return [8.0 * pixels * maps, 4 * pixels * (C + k * L)]",
            "return torch.tensor([8 * pixels * (L * C + k * L * (L - 1) // 2), "
            "4 * pixels * (C + L * k)])",
            "one, arriving = 0, C\n"
            "for _ in range(L):\n"
            "    one += 2 * arriving\n"
            "    arriving += k\n"
            "return 4 * pixels * one, 4 * pixels * arriving",
        ],
        "wrong": [
            (
                "maps = sum(C + i * k for i in range(L))\n"
                "return 2 * pixels * maps, pixels * (C + L * k)",
                "four bytes",
            ),
            (
                "maps = sum(C + i * k for i in range(L))\n"
                "return 4 * pixels * maps, 4 * pixels * (C + L * k)",
                "two copies",
            ),
            (
                "maps = sum(C + i * k for i in range(1, L + 1))\n"
                "return 8 * pixels * maps, 4 * pixels * (C + L * k)",
                "layer 0 reads C",
            ),
            (
                "maps = sum(C + i * k for i in range(L))\n"
                "return 8 * pixels * maps, 4 * pixels * L * k",
                "C + L k",
            ),
            ("return 8 * pixels * sum(C + i * k for i in range(L))", "two numbers"),
        ],
    },
    "13.2": {
        "right": [
            "v += eps\nscale = weight / v.sqrt()\nbias -= m * scale\nreturn scale, bias",
            "i = torch.rsqrt(v + eps)\nreturn [weight * i, bias - m * weight * i]",
            "scale = weight * (v + eps) ** -0.5\nreturn scale, -m * scale + bias",
        ],
        "wrong": [
            ("scale = weight / (v + eps)\nreturn scale, bias - m * scale", "the root of"),
            ("scale = weight / (v.sqrt() + eps)\nreturn scale, bias - m * scale", "under the root"),
            ("return weight / (v + eps).sqrt(), bias - m", "multiplied by scale"),
            ("scale = weight / (v + eps).sqrt()\nreturn scale, bias + m * scale", "what is added"),
            ("return weight / (v + eps).sqrt()", "return scale, shift"),
            ("return weight / (v + eps).sqrt(), 0.0", "one number a channel"),
            ("return weight / (v + eps).sqrt(), bias[:3]", "one number a channel"),
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
