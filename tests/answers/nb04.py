"""Exercises of notebook 04: right answers written in other ways, and mistakes people make."""

PARTS = """\
self.norm = nn.BatchNorm2d(in_channels)
self.relu = nn.ReLU()
self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
self.pool = nn.AvgPool2d(kernel_size=2, stride=2)"""
NORM, RELU, CONV, POOL = PARTS.splitlines()
JOINED = """\
out, c = conv.weight.shape[:2]
both = nn.Conv2d(c, out, 2, stride=2, bias=False)
"""

ANSWERS = {
    "4.1": {
        "right": [
            "maps = num_init_features\n"
            "steps = [maps]\n"
            "for i, layers in enumerate(block_config):\n"
            "    if i > 0:\n"
            "        maps = int(compression * maps)\n"
            "        steps.append(maps)\n"
            "    maps += layers * growth_rate\n"
            "    steps.append(maps)\n"
            "return tuple(steps)",
            "model = library.DenseNet(\n"
            "    growth_rate, block_config, num_init_features, compression=compression\n"
            ")\n"
            "stages = analysis.ledger(model).stages\n"
            "return torch.tensor([stage.channels_out for stage in stages[:-2]])",
        ],
        "wrong": [
            (
                "out = [num_init_features]\n"
                "for layers in block_config:\n"
                "    out.append(out[-1] + layers * growth_rate)\n"
                "    out.append(out[-1] if compression == 1 else out[-1] // 2)\n"
                "return out[:-1]",
                "[8, 12, 9, 17]",
            ),
            (
                "channels = [num_init_features]\n"
                "for layers in block_config:\n"
                "    channels.append(channels[-1] + layers * growth_rate)\n"
                "    channels.append(int(channels[-1] * compression))\n"
                "return channels",
                "every block but the last",
            ),
            (
                "channels = [num_init_features]\n"
                "for layers in block_config:\n"
                "    channels.append(channels[-1] + layers * growth_rate)\n"
                "    channels.append(channels[-1] * compression)\n"
                "return channels[:-1]",
                "15.5 maps are 15",
            ),
            (
                "channels = [num_init_features]\n"
                "for layers in block_config:\n"
                "    channels.append(channels[-1] + layers * growth_rate)\n"
                "    channels.append(channels[-1] // 2)\n"
                "return channels[:-1]",
                "1.0",
            ),
            (
                "channels = []\n"
                "for layers in block_config:\n"
                "    channels.append(num_init_features + layers * growth_rate)\n"
                "return channels",
                "start with the stem",
            ),
            ("return None", "not None"),
        ],
    },
    "4.2": {
        "right": [
            "\n".join([NORM, RELU, POOL, CONV]),
            f"{NORM}\n"
            "self.cut_and_pool = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2))\n"
            "self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)",
        ],
        "wrong": [
            (PARTS, "pool before the convolution"),
            ("\n".join([NORM, POOL, RELU, CONV]), "order of operations"),
            ("\n".join([POOL, NORM, RELU, CONV]), "order of operations"),
            ("\n".join([NORM, RELU, "self.pool = nn.MaxPool2d(2)", CONV]), "differs"),
            (
                "\n".join([NORM, RELU, POOL, CONV.replace(", bias=False", "")]),
                "extra ['conv.bias']",
            ),
        ],
    },
    "4.3": {
        "right": [
            JOINED + "with torch.no_grad():\n    both.weight.copy_(conv.weight / 4)\nreturn both",
            JOINED + "quarter = torch.full((1, 1, 2, 2), 0.25)\n"
            "both.weight = nn.Parameter(conv.weight.detach() * quarter)\n"
            "return both",
        ],
        "wrong": [
            (
                JOINED + "both.weight.data = conv.weight.data.expand(-1, -1, 2, 2)\nreturn both",
                "4.0 times as strong",
            ),
            ("return conv", "not (48, 96, 2, 2)"),
            (
                JOINED.replace(", stride=2", "")
                + "both.weight.data = conv.weight.data.expand(-1, -1, 2, 2) / 4\nreturn both",
                "the stride is (1, 1)",
            ),
            (
                JOINED.replace(", bias=False", "")
                + "both.weight.data = conv.weight.data.expand(-1, -1, 2, 2) / 4\n"
                "both.bias.data.fill_(0.5)\n"
                "return both",
                "there is no bias",
            ),
            (
                JOINED.replace("stride=2", "stride=2, padding=1")
                + "both.weight.data = conv.weight.data.expand(-1, -1, 2, 2) / 4\nreturn both",
                "no padding",
            ),
            (JOINED + "both.weight.data = conv.weight.data.expand(-1, -1, 2, 2) / 4", "NoneType"),
            (
                JOINED + "conv.weight.data /= 4\n"
                "both.weight.data = conv.weight.data.expand(-1, -1, 2, 2)\n"
                "return both",
                "leave the given convolution",
            ),
        ],
    },
    "4.4": {
        "right": [
            "side = 1\n"
            "for step in reversed(steps):\n"
            '    side = side + 2 if step == "3x3" else 2 * side\n'
            "return side",
            "side, poolings = 1, 0\n"
            "for step in steps:\n"
            '    side += (2 if step == "3x3" else 1) * 2**poolings\n'
            '    poolings += step == "pool"\n'
            "return torch.tensor(side)",
        ],
        "wrong": [
            (
                "side = 1\n"
                "for step in steps:\n"
                '    side = side + 2 if step == "3x3" else 2 * side\n'
                "return side",
                "['3x3', 'pool'] sees a square 4",
            ),
            (
                'return 1 + 2 * steps.count("3x3") + steps.count("pool")',
                "['pool', '3x3'] sees a square 6",
            ),
            (
                "side, distance = 1, 1\n"
                "for step in steps:\n"
                '    if step == "pool":\n'
                "        distance *= 2\n"
                "    side += (2 if step == '3x3' else 1) * distance\n"
                "return side",
                "['pool'] sees a square 2",
            ),
            ("return 3 ** steps.count('3x3')", "sees a square 5 pixels wide, not 9"),
        ],
    },
}
