"""Exercises of notebook 12: right answers written in other ways, and mistakes people make."""

ANSWERS = {
    "12.1": {
        "right": [
            "maps = network.features(images).detach()\n"
            "w = network.classifier.weight.detach()\n"
            "return torch.einsum('c,nchw->nhw', w[one] - w[other], maps)",
            "asked = torch.ones(len(images), dtype=torch.long, device=images.device)\n"
            "for_one, for_other = (explain.cam(network, images, c * asked) for c in (one, other))\n"
            "return for_one - for_other",
        ],
        "wrong": [
            (
                "w = network.classifier.weight[other] - network.classifier.weight[one]\n"
                "return torch.einsum('c,nchw->nhw', w, network.features(images))",
                "other way round",
            ),
            (
                "w = network.classifier.weight[one] - network.classifier.weight[other]\n"
                "return torch.einsum('c,nchw->nhw', w, network.features(images)).flatten(1) / 64",
                "a map a picture",
            ),
            (
                "w = network.classifier.weight[one] - network.classifier.weight[other]\n"
                "maps = torch.einsum('c,nchw->nhw', w, network.features(images))\n"
                "return maps / maps[0].numel()",
                "the mean, not the sum",
            ),
            (
                "w = network.classifier.weight[one]\n"
                "return torch.einsum('c,nchw->nhw', w, network.features(images))",
                "for `one` alone",
            ),
            (
                "w = network.classifier.weight[one] - network.classifier.weight[other]\n"
                "maps = torch.einsum('c,nchw->nhw', w, network.features(images))\n"
                "return maps.clamp(min=0)",
                "less that of the biases",
            ),
            (
                "w = network.classifier.weight[one] - network.classifier.weight[other]\n"
                "maps = torch.einsum('c,nchw->nhw', w, network.features(images))\n"
                "return maps.mean(dim=(1, 2), keepdim=True).expand_as(maps)",
                "the places are not",
            ),
        ],
    },
    "12.2": {
        "right": [
            "from contextlib import ExitStack\n"
            "with ExitStack() as stack:\n"
            "    seen = [stack.enter_context(explain.watch(layer)) for layer in layers]\n"
            "    network(images)\n"
            "return [one[0].detach() for one in seen]",
            "found, hooks = [None] * len(layers), []\n"
            "try:\n"
            "    for i, layer in enumerate(layers):\n"
            "        def keep(m, inputs, output, i=i):\n"
            "            found[i] = output.clone().detach()\n"
            "        hooks.append(layer.register_forward_hook(keep))\n"
            "    with torch.no_grad():\n"
            "        network(images)\n"
            "finally:\n"
            "    [hook.remove() for hook in hooks]\n"
            "return tuple(found)",
        ],
        "wrong": [
            (
                "seen = []\n"
                "def keep(m, i, o):\n"
                "    seen.append(o.detach().clone())\n"
                "hooks = [m.register_forward_hook(keep) for m in layers]\n"
                "network(images)\n"
                "[hook.remove() for hook in hooks]\n"
                "return seen",
                "in the order of `layers`",
            ),
            (
                "seen = []\n"
                "def keep(m, i, o):\n"
                "    seen.append(o.detach().clone())\n"
                "hooks = [m.register_forward_hook(keep) for m in layers]\n"
                "network(images)\n"
                "[hook.remove() for hook in hooks]\n"
                "return seen[::-1]",
                "in the order of `layers`",
            ),
            (
                "seen = []\n"
                "for layer in layers:\n"
                "    hook = layer.register_forward_hook(\n"
                "        lambda m, i, o: seen.append(o.detach().clone())\n"
                "    )\n"
                "    network(images)\n"
                "    hook.remove()\n"
                "return seen",
                "one forward pass",
            ),
            (
                "seen = {}\n"
                "def keep(m, i, o):\n"
                "    seen[m] = o.detach().clone()\n"
                "hooks = [m.register_forward_hook(keep) for m in layers]\n"
                "try:\n"
                "    network(images)\n"
                "except RuntimeError:\n"
                "    pass\n"
                "[hook.remove() for hook in hooks]\n"
                "return [seen.get(m) for m in layers]",
                "must reach the caller",
            ),
            (
                "seen = {}\n"
                "hooks = [m.register_forward_hook(lambda m, i, o: seen.update({m: o.detach()}))\n"
                "         for m in layers]\n"
                "network(images)\n"
                "[hook.remove() for hook in hooks]\n"
                "return [seen[m] for m in layers]",
                "clone()",
            ),
            (
                "seen = {}\n"
                "hooks = [m.register_forward_hook(lambda m, i, o: seen.update({m: o.clone()}))\n"
                "         for m in layers]\n"
                "network(images)\n"
                "[hook.remove() for hook in hooks]\n"
                "return [seen[m] for m in layers]",
                "detach()",
            ),
            (
                "seen = {}\n"
                "def keep(m, i, o):\n"
                "    seen[m] = o.detach().clone()\n"
                "for m in layers:\n"
                "    m.register_forward_hook(keep)\n"
                "network(images)\n"
                "return [seen[m] for m in layers]",
                "a hook stays: remove()",
            ),
            (
                "seen = {}\n"
                "def keep(m, i, o):\n"
                "    seen[m] = o.detach().clone()\n"
                "hooks = [m.register_forward_hook(keep) for m in layers]\n"
                "network(images)\n"
                "[hook.remove() for hook in hooks]\n"
                "return [seen[m] for m in layers]",
                "after an error",
            ),
        ],
    },
    "12.3": {
        "right": [
            "scores = []\n"
            "for one, mask in zip(maps, masks):\n"
            "    total = one[one > 0].sum()\n"
            "    inside = one[mask & (one > 0)].sum()\n"
            "    scores.append(inside / total if total > 0 else mask.float().mean())\n"
            "return torch.stack(scores)",
            "p = torch.relu(maps).flatten(1)\n"
            "p = torch.where(p.sum(1, keepdim=True) > 0, p, torch.ones_like(p))\n"
            "return (p * masks.flatten(1)).sum(1) / p.sum(1)",
        ],
        "wrong": [
            (
                "p = maps.clamp(min=0)\nreturn (p * masks).sum() / p.sum()",
                "one number for each map",
            ),
            (
                "p = maps.clamp(min=0)\nreturn (p * masks).sum(dim=(1, 2)) / p.sum(dim=(1, 2))",
                "nothing positive",
            ),
            (
                "p = maps.clamp(min=0)\n"
                "inside, total = (p * masks).sum(dim=(1, 2)), p.sum(dim=(1, 2))\n"
                "return torch.nan_to_num(inside / total, nan=0.5)",
                "3 of 4",
            ),
            (
                "p = maps.abs()\nreturn (p * masks).sum(dim=(1, 2)) / p.sum(dim=(1, 2))",
                "speaks against",
            ),
            (
                "inside = (maps * masks).sum(dim=(1, 2))\n"
                "return torch.nan_to_num(inside / maps.sum(dim=(1, 2)))",
                "negative numbers do not count",
            ),
            (
                "p = maps.clamp(min=0)\nreturn (p * masks).mean(dim=(1, 2)) * 2",
                "divide by the sum",
            ),
        ],
    },
    "12.4": {
        "right": [
            "shares = (torch.arange(steps) + 0.5) / steps\n"
            "gradients = []\n"
            "for share in shares.tolist():\n"
            "    point = torch.lerp(blank, images, share).requires_grad_()\n"
            "    gradients += torch.autograd.grad(f(point).sum(), point)\n"
            "return torch.stack(gradients).mean(dim=0) * (images - blank)",
            "way, out = images - blank, 0\n"
            "for i in range(steps):\n"
            "    point = (blank + (2 * i + 1) / (2 * steps) * way).requires_grad_()\n"
            "    f(point).sum().backward()\n"
            "    out = out + way * point.grad / steps\n"
            "return out",
        ],
        "wrong": [
            (
                "point = images.clone().requires_grad_()\n"
                "return (images - blank) * torch.autograd.grad(f(point).sum(), point)[0]",
                "at the end",
            ),
            (
                "total = 0\n"
                "for i in range(steps):\n"
                "    point = blank + (i + 0.5) / steps * (images - blank)\n"
                "    point.requires_grad_()\n"
                "    total += torch.autograd.grad(f(point).sum(), point)[0]\n"
                "return total / steps",
                "times images - blank",
            ),
            (
                "total = 0\n"
                "for i in range(steps):\n"
                "    point = blank + (i + 0.5) / steps * (images - blank)\n"
                "    point.requires_grad_()\n"
                "    total += torch.autograd.grad(f(point).sum(), point)[0]\n"
                "return total * (images - blank)",
                "not their sum",
            ),
            (
                "point = ((blank + images) / 2).requires_grad_()\n"
                "return (images - blank) * torch.autograd.grad(f(point).sum(), point)[0]",
                "of the four pieces",
            ),
            (
                "total = 0\n"
                "for i in range(steps):\n"
                "    point = blank + i / steps * (images - blank)\n"
                "    point.requires_grad_()\n"
                "    total += torch.autograd.grad(f(point).sum(), point)[0]\n"
                "return total * (images - blank) / steps",
                "at the middle",
            ),
        ],
    },
}
