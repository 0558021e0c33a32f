"""Exercises of notebook 15: right answers written in other ways, and mistakes people make."""

ANSWERS = {
    "15.1": {
        "right": [
            "import numpy as np\n"
            "c = np.bincount(labels.numpy(), minlength=classes)\n"
            "w = np.zeros(classes)\n"
            "w[c > 0] = len(labels) / (c > 0).sum() / c[c > 0]\n"
            "return w",
            "counts = torch.stack([(labels == c).sum() for c in range(classes)])\n"
            "occurring = counts > 0\n"
            "weights = torch.zeros(classes)\n"
            "weights[occurring] = len(labels) / occurring.sum() / counts[occurring]\n"
            "return weights",
            "counts = torch.bincount(labels, minlength=classes).double()\n"
            "weights = torch.nan_to_num(1 / counts, posinf=0.0)\n"
            "return weights / weights[labels].mean()",
        ],
        "wrong": [
            (
                "c = labels.bincount(minlength=classes)\n"
                "return torch.where(c > 0, len(labels) / (classes - 1) / c.clamp(min=1), 0.0)",
                "each of the two",
            ),
            (
                "c = labels.bincount(minlength=classes).float()\n"
                "w = len(labels) / (c > 0).sum() / c\n"
                "w[w == w.max()] = 0\n"
                "return w",
                "each of the two",
            ),
            (
                "counts = labels.bincount(minlength=classes)\n"
                "return len(labels) / ((counts > 0).sum() * counts)",
                "not infinity",
            ),
            (
                "return labels.bincount(minlength=classes) / len(labels)",
                "the rarer, the larger",
            ),
            (
                "counts = labels.bincount(minlength=classes)\n"
                "return torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)",
                "times N, over K",
            ),
            (
                "counts = labels.bincount(minlength=classes)\n"
                "per_class = len(labels) / classes\n"
                "return torch.where(counts > 0, per_class / counts.clamp(min=1), 0.0)",
                "three of the classes occur",
            ),
            (
                "counts = labels.bincount(minlength=classes)\n"
                "share = len(labels) / labels.max()\n"
                "return torch.where(counts > 0, share / counts.clamp(min=1), 0.0)",
                "labels 1, 1 and 0",
            ),
            (
                "counts = labels.bincount()\n"
                "whole = len(labels) / (counts > 0).sum()\n"
                "return torch.where(counts > 0, whole / counts.clamp(min=1), 0.0)",
                "labels 1, 1 and 0",
            ),
            (
                "counts = labels.unique(return_counts=True)[1]\n"
                "return len(labels) / (len(counts) * counts)",
                "one number for each class",
            ),
        ],
    },
    "15.2": {
        "right": [
            "both = torch.cat([train, train.flip(dims=(3,))]).flatten(1)\n"
            "equal = (test.flatten(1)[:, None] == both[None]).all(dim=2)\n"
            "return equal.any(dim=1)",
            "known = {tuple(one.flatten().tolist()) for one in train}\n"
            "hits = []\n"
            "for one in test:\n"
            "    ways = (one, torch.flip(one, [2]))\n"
            "    hits.append(any(tuple(way.flatten().tolist()) in known for way in ways))\n"
            "return torch.tensor(hits)",
        ],
        "wrong": [
            (
                "both = torch.cat([test, train, train.flip(3)])\n"
                "_, place, count = both.unique(dim=0, return_inverse=True, return_counts=True)\n"
                "return count[place[: len(test)]] > 1",
                "twice in test",
            ),
            (
                "seen = {one.numpy().tobytes() for one in train}\n"
                "return torch.tensor([one.numpy().tobytes() in seen for one in test])",
                "mirrored left to right is a leak",
            ),
            (
                "seen = {one.numpy().tobytes() for one in train.flip(3)}\n"
                "return torch.tensor([one.numpy().tobytes() in seen for one in test])",
                "a plain copy is a leak too",
            ),
            (
                "both = torch.cat([train, train.flip(2), train.flip(3)]).flatten(1)\n"
                "return (test.flatten(1)[:, None] == both[None]).all(dim=2).any(dim=1)",
                "upside down",
            ),
            (
                "both = torch.cat([train, train.flip(3), train.flip(2, 3)]).flatten(1)\n"
                "return (test.flatten(1)[:, None] == both[None]).all(dim=2).any(dim=1)",
                "half a turn",
            ),
            (
                "both = torch.cat([train, train.flip(1), train.flip(3)]).flatten(1)\n"
                "return (test.flatten(1)[:, None] == both[None]).all(dim=2).any(dim=1)",
                "colours",
            ),
            (
                "both = torch.cat([train, train.flip(3)]).flatten(1).float()\n"
                "return torch.cdist(test.flatten(1).float(), both).min(dim=1).values < 9",
                "one pixel differs",
            ),
            (
                "both = torch.cat([train, train.flip(3)]).flatten(1)\n"
                "return (test.flatten(1)[:, None] == both[None]).all(dim=2)",
                "a yes or no for each",
            ),
            ("pass", "`return` missing"),
        ],
    },
    "15.3": {
        "right": [
            "network.train()\n"
            "names = [name for name, _ in network.features.named_children()]\n"
            "for name in names[: names.index(last) + 1]:\n"
            "    getattr(network.features, name).train(False)\n"
            "return network",
            "network.train()\n"
            "for name, part in network.features.named_children():\n"
            "    for module in part.modules():\n"
            "        if isinstance(module, (nn.BatchNorm2d, nn.Dropout)):\n"
            "            module.eval()\n"
            "    if name == last:\n"
            "        return network",
            "frozen = True\n"
            "network.train()\n"
            "for name, part in network.features.named_children():\n"
            "    for module in part.modules():\n"
            "        module.training = not frozen\n"
            "    frozen = frozen and name != last\n"
            "return network",
        ],
        "wrong": [
            ("return network.train()", "these moved, and are frozen"),
            ("return network.eval()", "no running mean has moved"),
            (
                "network.train()\n"
                "for name, part in network.features.named_children():\n"
                "    if name == last:\n"
                "        break\n"
                "    part.eval()\n"
                "return network",
                "*including* last",
            ),
            (
                "network.train()\n"
                "for name, part in network.features.named_children():\n"
                "    part.eval()\n"
                "    if name == last:\n"
                "        break",
                "return the network",
            ),
            (
                "network.train()\n"
                "for name, part in network.features.named_children():\n"
                "    for module in part.modules():\n"
                "        if isinstance(module, nn.BatchNorm2d):\n"
                "            module.eval()\n"
                "    if name == last:\n"
                "        return network",
                "a dropout in a frozen part",
            ),
            (
                "network.training, above = True, False\n"
                "for name, part in network.features.named_children():\n"
                "    if above:\n"
                "        part.train()\n"
                "    above = above or name == last\n"
                "return network",
                "these moved, and are frozen",  # it trusts the mode in which the network came
            ),
            (
                "network.train()\n"
                "for name in ('conv0', 'norm0', 'relu0', 'denseblock1', 'transition1'):\n"
                "    getattr(network.features, name).eval()\n"
                "return network",
                "all norms above",
            ),
            (
                "network.train()\n"
                "network.features.requires_grad_(False)\n"
                "for name, part in network.features.named_children():\n"
                "    part.eval()\n"
                "    if name == last:\n"
                "        break\n"
                "return network",
                "modes only",
            ),
        ],
    },
}
