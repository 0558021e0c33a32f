"""Repairs for notebook 16: right ones in other words, and such as are wrong or nearly right."""

LOOP = """\
for _ in range(epochs):
    for images, labels in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
{}
"""


KEPT = """\
@contextmanager
def kept():
    now = {{n: b.clone() for n, b in self.named_buffers()}}
    def back():
        for n, b in self.named_buffers():
            b.copy_(now[n])
    {}
return checkpoint(super().forward, x, use_reentrant=False,
                  context_fn=lambda: (nullcontext(), kept()))"""


GROUPED = """\
_, group = {}.unique(return_inverse=True)
order = torch.randperm(int(group.max()) + 1, generator=torch.Generator().manual_seed(seed))
tested = torch.isin(group, order[: round(part * len(order))])
return (~tested).nonzero().flatten().tolist(), tested.nonzero().flatten().tolist()"""


def loop(*lines):
    """Return a training loop whose steps end with these lines; a line of 0 ends the batch loop."""
    inner = [f"        {line}" for line in lines if not line.startswith("|")]
    outer = [f"    {line[1:]}" for line in lines if line.startswith("|")]
    return LOOP.format("\n".join([*inner, *outer]))


ANSWERS = {
    "16.1": {
        "right": [
            "for part in (self.norm, self.relu, self.conv, self.drop, self.pool):\n"
            "    x = part(x)\nreturn x",
            "return Transition.forward(self, x)",
            "return self.pool(self.drop(self.conv(F.relu(self.norm(x)))))",
        ],
        "wrong": [
            (
                "h = self.conv(self.relu(self.norm(x)))\n"
                "return self.pool(F.dropout(h, 0.5, self.training))",
                "training mode",
            ),
            ("return super().forward(x)", "there is still no ReLU"),
            ("return self.pool(self.drop(self.relu(self.conv(self.norm(x)))))", "in front of"),
            ("return self.pool(self.drop(self.conv(self.norm(self.relu(x)))))", "behind the norm"),
            ("return self.pool(self.conv(self.relu(self.norm(x))))", "dropout is lost"),
            ("return self.drop(self.pool(self.conv(self.relu(self.norm(x)))))", "differs from"),
            ("self.pool(self.drop(self.conv(self.relu(self.norm(x)))))", "`return`"),
        ],
    },
    "16.2": {
        "right": [
            "for layer in self.values():\n    x = torch.cat((x, layer(x)), 1)\nreturn x",
            "return DenseBlock.forward(self, x)",
        ],
        "wrong": [
            ("return super().forward(x)", "in front of the old"),
            (
                "given = x\nfor layer in self.values():\n    x = torch.cat([layer(x), x], dim=1)\n"
                "return torch.cat([given, x[:, :-given.shape[1]]], dim=1)",
                "another order",
            ),
            (
                "given, news = x, []\nfor layer in self.values():\n    news.append(layer(x))\n"
                "    x = torch.cat([news[-1], x], dim=1)\nreturn torch.cat([given, *news], dim=1)",
                "another order",
            ),
            (
                "for layer in self.values():\n    x = torch.cat([x, layer(x.detach())], dim=1)\n"
                "return x",
                "the gradient of the input",
            ),
        ],
    },
    "16.3": {
        "right": [
            "return DenseNet(8, (2, 2, 2, 2), 16, num_classes=num_classes)",
            'return DenseNet(8, [2] * 4, 16, num_classes=num_classes, stem="conv")',
        ],
        "wrong": [
            ("return clinic.patient_3(num_classes)", "maps of 8x8"),
            (
                "net = clinic.patient_3(num_classes)\n"
                "net.features.pool0 = nn.Identity()\nreturn net",
                "maps of 16x16",
            ),
            (
                "net = clinic.patient_3(num_classes)\n"
                "net.features.conv0 = nn.Conv2d(3, 16, 3, padding=1, bias=False)\n"
                "net.features.pool0 = nn.Identity()\nreturn net",
                "changed by hand",
            ),
            ("return DenseNet(8, (2, 2, 2), 16, num_classes=num_classes)", "block_config"),
            ("return DenseNet(8, (2, 2, 2, 2), num_classes=num_classes)", "num_init_features"),
            ("return DenseNet(8, (2, 2, 2, 2), 16)", "num_classes"),
            ("return None", "return a DenseNet"),
        ],
    },
    "16.4": {
        "right": [
            "with torch.no_grad():\n    for part in network.modules():\n"
            "        if isinstance(part, nn.Conv2d):\n"
            "            n = part.weight[:, 0].numel()\n"
            "            part.weight.copy_(torch.randn_like(part.weight) * (2 / n) ** 0.5)",
            "for kernel in [m.weight for m in network.modules() if type(m) is nn.Conv2d]:\n"
            "    C, _, h, w = kernel.shape\n"
            "    nn.init.normal_(kernel, std=math.sqrt(2 / (h * w * C)))",
        ],
        "wrong": [
            (
                "for m in network.modules():\n"
                "    if isinstance(m, nn.Conv2d):\n"
                "        std = (2 / m.weight[:, 0].numel()) ** 0.5\n"
                "        m.weight = nn.Parameter(torch.randn_like(m.weight) * std)",
                "the same parameter",
            ),
            (
                "for m in network.modules():\n"
                "    if isinstance(m, nn.Conv2d):\n"
                "        torch.manual_seed(0)\n"
                '        nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")',
                "draw each anew",
            ),
            ("clinic.patient_4(network)", "fan-in"),
            ("network.reset_parameters()", "leave it alone"),  # it draws the classifier anew
            (
                "for p in network.modules():\n    if isinstance(p, nn.Conv2d):\n"
                "        nn.init.kaiming_uniform_(p.weight, mode='fan_out', nonlinearity='relu')",
                "uniform",
            ),
            (
                "for p in network.modules():\n    if isinstance(p, nn.Conv2d):\n"
                "        nn.init.xavier_normal_(p.weight)",
                "times the authors'",
            ),
            (
                "for p in network.parameters():\n    if p.dim() > 1:\n"
                "        nn.init.kaiming_normal_(p, mode='fan_out')",
                "leave it alone",
            ),
            (
                "nn.init.kaiming_normal_(network.features.conv0.weight, mode='fan_out')",
                "every convolution",
            ),
        ],
    },
    "16.5": {
        "right": [
            "return checkpoint(lambda y: DenseLayer.forward(self, y), x, use_reentrant=False,\n"
            "                  context_fn=lambda: (nullcontext(), unmoved(self)))",
            KEPT.format("try:\n        yield\n    finally:\n        back()"),
        ],
        "wrong": [
            ("return checkpoint(super().forward, x, use_reentrant=False)", "updated once"),
            (KEPT.format("yield\n    back()"), "updated once"),  # checkpoint leaves by an exception
            ("return super().forward(x)", "it keeps its maps"),
            (
                "for part in self.children():\n    if isinstance(part, nn.BatchNorm2d):\n"
                "        part.momentum = 1 - 0.9**0.5\n"
                "return checkpoint(super().forward, x, use_reentrant=False)",
                "updated once",
            ),
            (
                "with unmoved(self):\n"
                "    return checkpoint(super().forward, x, use_reentrant=False)",
                "without a backward pass",
            ),
            (
                "return checkpoint(super().forward, x, use_reentrant=False,\n"
                "                  context_fn=lambda: (unmoved(self), unmoved(self)))",
                "updated once",
            ),
            (
                "return checkpoint(super().forward, x, use_reentrant=False,\n"
                "                  context_fn=lambda: (unmoved(self), nullcontext()))",
                "without a backward pass",
            ),
            (
                "return checkpoint(super().forward, x, use_reentrant=False,\n"
                "                  preserve_rng_state=False,\n"
                "                  context_fn=lambda: (nullcontext(), unmoved(self)))",
                "the gradients differ",
            ),
            (
                "self.odd = not getattr(self, 'odd', False)\n"
                "def contexts():\n"
                "    return nullcontext() if self.odd else unmoved(self), unmoved(self)\n"
                "return checkpoint(super().forward, x, use_reentrant=False, context_fn=contexts)",
                "statistics are off",
            ),
            ("pass", "`return` missing"),
        ],
    },
    "16.6": {
        "right": [
            "return evaluate(network, batches).accuracy",
            "was = network.training\nnetwork.eval()\n"
            "share = clinic.patient_6(network, batches)\nnetwork.train(was)\nreturn share",
            "was = network.training\nnetwork.train(False)\nhits = []\n"
            "for images, labels in batches:\n"
            "    hits.append(network(images).argmax(1) == labels)\n"
            "network.train(was)\nreturn float(torch.cat(hits).float().mean())",
        ],
        "wrong": [
            (
                "hits = [network(a).argmax(1) == b for a, b in batches]\n"
                "return torch.cat(hits).float().mean().item()",
                "still in training mode",
            ),
            (
                "network.eval()\nhits = [network(a).argmax(1) == b for a, b in batches]\n"
                "return torch.cat(hits).float().mean().item()",
                "training=True",
            ),
            (
                "network.eval()\nhits = [network(a).argmax(1) == b for a, b in batches]\n"
                "network.train()\nreturn torch.cat(hits).float().mean().item()",
                "training=False",
            ),
            (  # its norms rest, and use the batch's statistics all the same
                "norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]\n"
                "for m in norms:\n    m.momentum = 0.0\n"
                "hits = [network(a).argmax(1) == b for a, b in batches]\n"
                "return torch.cat(hits).float().mean().item()",
                "still in training mode",
            ),
            (
                "was = network.training\nnetwork.eval()\n"
                "parts = [(network(a).argmax(1) == b).float().mean() for a, b in batches]\n"
                "network.train(was)\nreturn (sum(parts) / len(parts)).item()",
                "the last batch",
            ),
            (
                "was = network.training\nnetwork.eval()\n"
                "right = sum((network(a).argmax(1) == b).sum().item() for a, b in batches)\n"
                "network.train(was)\nreturn right",
                "8 of 11",
            ),
        ],
    },
    "16.7": {
        "right": [
            "ready = clinic.patient_7(images, mean, std, 4, 4)\n"
            "out = torch.zeros_like(F.pad(ready, (4, 4, 4, 4)))\n"
            "H, W = images.shape[2:]\nout[:, :, 4:-4, 4:-4] = ready\n"
            "return out[:, :, down:down + H, right:right + W]",
            "H, W = images.shape[2:]\n"
            "m = torch.tensor(mean).view(1, 3, 1, 1)\ns = torch.tensor(std).view(1, 3, 1, 1)\n"
            "x = torch.nn.functional.pad(images / 255 - m, [4] * 4)\n"
            "return x[..., down:down + H, right:right + W] / s",
        ],
        "wrong": [
            ("return clinic.patient_7(images, mean, std, down, right)", "still black"),
            (
                "N, C, H, W = images.shape\n"
                "padded = F.pad(images.float() / 255, [4] * 4, value=sum(mean) / 3)\n"
                "moved = padded[:, :, down : down + H, right : right + W]\n"
                "return (moved - torch.tensor(mean).view(3, 1, 1)) "
                "/ torch.tensor(std).view(3, 1, 1)",
                "in all channels",
            ),
            (
                "N, C, H, W = images.shape\n"
                "padded = F.pad(images.float() / 255, [4] * 4, mode='reflect')\n"
                "moved = padded[:, :, down : down + H, right : right + W]\n"
                "return (moved - torch.tensor(mean).view(3, 1, 1)) "
                "/ torch.tensor(std).view(3, 1, 1)",
                "not a piece of the picture",
            ),
            (
                "N, C, H, W = images.shape\n"
                "padded = F.pad(images.float() / 255, [4] * 4)\n"
                "moved = padded[:, :, down : down + H, right : right + W]\n"
                "return (moved - torch.tensor(mean).view(3, 1, 1)) ",
                "only normalised",
            ),
            (
                "N, C, H, W = images.shape\n"
                "ready = F.pad(clinic.patient_7(images, mean, std, 4, 4), [4] * 4)\n"
                "return ready[:, :, right : right + H, down : down + W]",
                "the border",
            ),
            (  # only the rows at the bottom are mended
                "out = clinic.patient_7(images, mean, std, down, right)\n"
                "if down > 4:\n    out[:, :, 4 - down:] = 0\nreturn out",
                "still black",
            ),
            (
                "ready = F.pad(clinic.patient_7(images, mean, std, 4, 4), [4] * 4)\n"
                "return ready[:, :, down:, right:]",
                "only normalised",
            ),
        ],
    },
    "16.8": {
        "right": [
            "order = torch.rand(len(labels), generator=generator).argsort()\n"
            "return [images[order], labels[order]]",
            "numbers = torch.randperm(len(images), generator=generator).tolist()\n"
            "return torch.stack([images[i] for i in numbers]), labels[numbers]",
        ],
        "wrong": [
            (
                "order = torch.randperm(40, generator=generator)\n"
                "return images[order], labels[order]",
                "41 pictures",
            ),
            ("return clinic.patient_8(images, labels, generator)", "not with their pictures"),
            ("return images, labels", "the old one"),
            (
                "order = torch.randperm(len(images), generator=generator.manual_seed(0))\n"
                "return images[order], labels[order]",
                "the same order",
            ),
            (
                "order = torch.randperm(len(images))\nreturn images[order], labels[order]",
                "the generator alone",
            ),
            (
                "order = torch.randint(len(images), (len(images),), generator=generator)\n"
                "return images[order], labels[order]",
                "every picture comes once",
            ),
            (
                "k = int(torch.randint(1, len(images), (1,), generator=generator))\n"
                "return images.roll(k, 0), labels.roll(k, 0)",
                "still neighbours",
            ),
            (
                "parts = torch.arange(len(images)).split(8)\n"
                "inner = [p[torch.randperm(len(p), generator=generator)] for p in parts]\n"
                "order = torch.cat(inner)\n"
                "return images[order], labels[order]",
                "near their place",
            ),
            (
                "order = torch.randperm(len(images), generator=generator)\n"
                "images[:], labels[:] = images[order], labels[order]\nreturn images, labels",
                "as it is",
            ),
        ],
    },
    "16.9": {
        "right": [
            "keys = [image.numpy().tobytes() for image in images]\n"
            "groups = sorted(set(keys))\n"
            "g = torch.Generator().manual_seed(seed)\n"
            "order = torch.randperm(len(groups), generator=g).tolist()\n"
            "tested = {groups[i] for i in order[: round(part * len(groups))]}\n"
            "learn = [i for i, key in enumerate(keys) if key not in tested]\n"
            "return learn, [i for i, key in enumerate(keys) if key in tested]",
            "unique, group = images.flatten(1).unique(dim=0, return_inverse=True)\n"
            "g = torch.Generator().manual_seed(seed)\n"
            "chosen = torch.zeros(len(unique), dtype=torch.bool)\n"
            "chosen[torch.randperm(len(unique), generator=g)[: round(part * len(unique))]] = True\n"
            "numbers = torch.arange(len(images))\n"
            "return numbers[~chosen[group]], numbers[chosen[group]]",
        ],
        "wrong": [
            ("return clinic.patient_9(images, part, seed)", "on both sides"),
            (
                "g = torch.Generator().manual_seed(seed)\n"
                "order = torch.randperm(len(images), generator=g).tolist()\n"
                "n = round(part * len(images))\nreturn order[n:], order[:n]",
                "doubles",
            ),
            (
                "n = round(part * len(images))\nall = list(range(len(images)))\n"
                "return all[n:], all[:n]",
                "doubles",
            ),
            (
                "_, group = images.flatten(1).unique(dim=0, return_inverse=True)\n"
                "count = int(group.max()) + 1\n"
                "tested = torch.isin(group, torch.arange(round(part * count)))\n"
                "return (~tested).nonzero().flatten().tolist(), "
                "tested.nonzero().flatten().tolist()",
                "the seed must decide",
            ),
            (
                "_, group = images.flatten(1).unique(dim=0, return_inverse=True)\n"
                "order = torch.randperm(int(group.max()) + 1)\n"
                "tested = torch.isin(group, order[: round(part * len(order))])\n"
                "return (~tested).nonzero().flatten().tolist(), "
                "tested.nonzero().flatten().tolist()",
                "the same seed",
            ),
            (  # a double follows its first twin alone, and only to one side
                "g = torch.Generator().manual_seed(seed)\n"
                "order = torch.randperm(len(images), generator=g).tolist()\n"
                "n = round(part * len(images))\nlearn, test = order[n:], order[:n]\n"
                "for i in list(learn):\n"
                "    if any(images[i].equal(images[j]) for j in test[:n]):\n"
                "        learn.remove(i)\n        test.append(i)\n        break\n"
                "return learn, test",
                "doubles",
            ),
            (
                GROUPED.format("images[:, 0, 0, 0]"),
                "to test on",
            ),
            (  # the total brightness is no picture's name
                GROUPED.format("images.flatten(1).float().sum(1)"),
                "to test on",
            ),
            (
                "a, b = clinic.patient_9(images, part, seed)\n"
                "return [i for i in a if i not in b], b",
                "each number once",
            ),
        ],
    },
    "16.10": {
        "right": [
            loop(
                "optimizer.step()",
                "yield cycle.get_last_lr()[0], loss.item()",
                "cycle.step()",
            ),
            "for step in range(steps):\n"
            "    images, labels = list(batches)[step % len(batches)]\n"
            "    loss = F.cross_entropy(network(images), labels)\n"
            "    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()\n"
            "    yield optimizer.param_groups[0]['lr'], loss.item()\n    cycle.step()",
        ],
        "wrong": [
            ("yield from clinic.patient_10(network, batches, epochs, rate)", "still once a pass"),
            (
                loop(
                    "optimizer.step()",
                    "cycle.step()",
                    "yield optimizer.param_groups[0]['lr'], loss.item()",
                ),
                "the rate that the step has used",
            ),
            (
                "used = optimizer.param_groups[0]['lr']\n"
                + loop("optimizer.step()", "yield used, loss.item()", "cycle.step()"),
                "not those of one cycle",
            ),
            (
                loop(
                    "optimizer.step()", "yield optimizer.param_groups[0]['lr'], 0", "cycle.step()"
                ).replace("        optimizer.zero_grad()\n", ""),
                "zero_grad",
            ),
            (
                loop("optimizer.step()", "cycle.step()", "|yield rate, loss.item()"),
                "make 6 steps",
            ),
            (
                "total = 0\n"
                + loop(
                    "used = optimizer.param_groups[0]['lr']",
                    "total += loss.item()",
                    "optimizer.step()",
                    "cycle.step()",
                    "yield used, total",
                ),
                "the loss of each step",
            ),
            ("pass", "`return` missing"),
        ],
    },
    "16.11": {
        "right": [
            "groups = [{'params': [p]} for p in network.parameters()]\n"
            "return torch.optim.SGD(groups, lr=rate, momentum=0.9, weight_decay=decay)",
            "return torch.optim.SGD(network.parameters(), rate, 0.9, 0, decay)",
        ],
        "wrong": [
            ("return clinic.patient_11(network, rate, decay)", "rate * decay"),
            (
                "return torch.optim.SGD(network.parameters(), rate, 0.9, weight_decay=5e-4)",
                "rate * decay",
            ),
            (
                "return torch.optim.SGD(network.parameters(), rate, 0.9, decay, decay)",
                "steps otherwise",
            ),
            (
                "w = [p for p in network.parameters() if p.dim() > 1]\n"
                "b = [p for p in network.parameters() if p.dim() < 2]\n"
                "groups = [{'params': w, 'weight_decay': decay}, {'params': b}]\n"
                "return torch.optim.SGD(groups, lr=rate, momentum=0.9)",
                "0.bias",
            ),
            (
                "return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)",
                "steps otherwise",
            ),
            (
                "return torch.optim.SGD(network.parameters(), lr=rate, weight_decay=decay)",
                "steps otherwise",
            ),
            ("pass", "`return` missing"),
        ],
    },
    "16.12": {
        "right": [
            (
                "return super(clinic.Patient12, self).forward(images)",
                "return torch.softmax(self.forward(images), 1)",
            ),
            (
                "return DenseNet.forward(self, images).log_softmax(dim=1)",
                "return self(images).exp()",
            ),
        ],
        "wrong": [
            (
                ("return super().forward(images)", "return self(images)"),
                "forward still gives",
            ),
            (
                ("return super().forward(images).log()", "return super().forward(images)"),
                "infinite",
            ),
            (
                ("return DenseNet.forward(self, images)", "return self(images)"),
                "each row must add up",
            ),
            (
                (
                    "return DenseNet.forward(self, images)",
                    "return super().forward(images).sigmoid()",
                ),
                "each row must add up",
            ),
            (
                (
                    "return DenseNet.forward(self, images) / 2",
                    "return super().forward(images)",
                ),
                "other logits",
            ),
            (("pass", "pass"), "`return` missing"),
        ],
    },
}
