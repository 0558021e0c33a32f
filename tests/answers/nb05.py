"""Exercises of notebook 05: right answers written in other ways, and mistakes people make."""

COPY = """\
from copy import deepcopy

changed = deepcopy(network)
"""

ANSWERS = {
    "5.1": {
        "right": [
            "grown = [[n + (i == j) for j, n in enumerate(block_config)]\n"
            "         for i in range(len(block_config))]\n"
            "books = [analysis.ledger(library.DenseNet(12, blocks)).total\n"
            "         for blocks in (block_config, *grown)]\n"
            "before, *after = [vars(total)[field] for total in books]\n"
            "return torch.tensor(after) - before",
            "count = {\n"
            "    'parameters': analysis.count_parameters,\n"
            "    'macs': analysis.count_macs,\n"
            "    'activation_bytes': analysis.activation_bytes,\n"
            "}[field]\n"
            "blocks = list(block_config)\n"
            "prices = ()\n"
            "for i in range(len(blocks)):\n"
            "    blocks[i] += 1\n"
            "    more = count(library.DenseNet(block_config=tuple(blocks)))\n"
            "    blocks[i] -= 1\n"
            "    prices += (more - count(library.DenseNet(block_config=tuple(blocks))),)\n"
            "return prices",
        ],
        "wrong": [
            (
                "prices, c = [], 24\n"
                "for layers in block_config:\n"
                "    c += 12 * layers\n"
                "    prices.append(analysis.count_parameters(library.DenseLayer(c, 12)))\n"
                "    c //= 2\n"
                "return prices",
                "who reads the 12 maps",
            ),
            (
                "wholes = []\n"
                "for i in range(len(block_config)):\n"
                "    blocks = list(block_config)\n"
                "    blocks[i] += 1\n"
                "    network = library.DenseNet(block_config=blocks)\n"
                "    wholes.append(getattr(analysis.ledger(network).total, field))\n"
                "return wholes",
                "subtract the one without",
            ),
            (
                "def whole(blocks):\n"
                "    network = library.DenseNet(block_config=blocks)\n"
                "    return getattr(analysis.ledger(network).total, field)\n\n"
                "before, prices, blocks = whole(block_config), [], list(block_config)\n"
                "for i in range(len(blocks)):\n"
                "    blocks[i] += 1\n"
                "    prices.append(whole(blocks) - before)\n"
                "return prices",
                "one block at a time",
            ),
            (
                "count, prices = analysis.count_parameters, []\n"
                "for i in range(len(block_config)):\n"
                "    blocks = list(block_config)\n"
                "    blocks[i] += 1\n"
                "    prices.append(count(library.DenseNet(12, blocks))\n"
                "                  - count(library.DenseNet(12, block_config)))\n"
                "return prices",
                "the field asked for",
            ),
            (
                "whole = [getattr(analysis.ledger(library.DenseNet(12, b)).total, field)\n"
                "         for b in ((6, 12), (7, 12), (6, 13))]\n"
                "return [whole[1] - whole[0], whole[2] - whole[0]]",
                "blocks of 1, 2 and 1",
            ),
            ("return None", "not None"),
        ],
    },
    "5.2": {
        "right": [
            "maps = network.classifier.in_features\n"
            "rest = sum(p.numel() for p in network.features.parameters())\n"
            "classes = 1\n"
            "while classes * maps + classes <= rest:\n"
            "    classes += 1\n"
            "return classes",
            "last = analysis.count_parameters(network.classifier)\n"
            "rest = analysis.count_parameters(network) - last\n"
            "return torch.tensor(rest * network.classifier.out_features / last).floor() + 1",
        ],
        "wrong": [
            (
                "a_class = network.classifier.in_features + 1\n"
                "return analysis.count_parameters(network) // a_class + 1",
                "does not belong to the rest",
            ),
            (
                "maps = network.classifier.in_features\n"
                "return analysis.count_parameters(network.features) // maps + 1",
                "a bias, too",
            ),
            (
                "a_class = network.classifier.in_features + 1\n"
                "return analysis.count_parameters(network.features) // a_class",
                "961 classes",
            ),
            (
                "a_class = network.classifier.in_features + 1\n"
                "return analysis.count_parameters(network.features) / a_class",
                "193 a class",
            ),
            (
                "a_class = network.classifier.in_features + 1\n"
                "return math.ceil(analysis.count_parameters(network.features) / a_class)",
                "not more",
            ),
            (
                "rest = analysis.count_parameters(network.features)\n"
                "a_class = analysis.count_parameters(network.classifier) / 10\n"
                "return rest // a_class + 1",
                "13 a class",
            ),
            ("return 962", "13 a class"),
            ("return None", "not None"),
        ],
    },
    "5.3": {
        "right": [
            "true = sum(sum(range(1, n + 1)) for n in block_config)\n"
            "deep = 1 + 2 * sum(block_config) + len(block_config)\n"
            "return [true, deep * (deep + 1) / 2]",
            "n = torch.tensor(block_config)\n"
            "deep = 2 * n.sum() + len(n) + 1\n"
            "return torch.stack([(n * (n + 1) // 2).sum(), deep * (deep + 1) // 2])",
        ],
        "wrong": [
            (
                "n = sum(block_config)\n"
                "return sum(m * (m + 1) // 2 for m in block_config), n * (n + 1) // 2",
                "the depth counts convolutions",
            ),
            (
                "deep = 2 * sum(block_config) + len(block_config) + 1\n"
                "return deep * (deep + 1) // 2, deep * (deep + 1) // 2",
                "block by block",
            ),
            ("return sum(n * (n + 1) // 2 for n in block_config)", "not 99"),
            (
                "deep = 2 * sum(block_config) + len(block_config) + 1\n"
                "return sum(n * (n - 1) // 2 for n in block_config), deep * (deep + 1) // 2",
                "true 99",
            ),
        ],
    },
    "5.4": {
        "right": [
            "return library.DenseNet(6, (4, 5, 6), 12)",
            "return library.densenet_cifar(40, 8)",
            "return DenseNet(k=8, blocks=(5, 5, 5), channels=16, stem='conv')",
        ],
        "wrong": [
            ("return library.DenseNet(8, (6, 6, 6), 16, stem='imagenet')", "for ImageNet"),
            (
                "network = library.DenseNet(8, (6, 6, 6), 16)\n"
                "network.features.relu0 = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))\n"
                "return network",
                "works on 16x16",
            ),
            (
                "whole = library.DenseNet(8, (6, 6, 6), 16)\n"
                "mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
                "return nn.Sequential(*whole.features, *mean, whole.classifier)",
                "build it with DenseNet",
            ),
            ("return library.DenseNet(24, (6, 6, 6), 16)", "turn the growth rate down"),
            ("return library.DenseNet(8, (9, 9), 16)", "2 blocks, not three"),
            ("return library.DenseNet(8, (3, 3, 3), 16)", "add dense layers"),
            ("return library.DenseNet(8, (6, 6, 6), 16, num_classes=100)", "ten classes"),
            ("return library.DenseNet", "return a network"),
        ],
    },
    "5.5": {
        "right": [
            COPY + "width = network.classifier.weight.shape[1]\n"
            "changed.classifier = nn.Linear(width, classes)\n"
            "return changed",
            "arguments = {**network.arguments, 'num_classes': classes}\n"
            "changed = library.DenseNet(**arguments)\n"
            "changed.features.load_state_dict(network.features.state_dict())\n"
            "return changed",
        ],
        "wrong": [
            (
                "import copy\n"
                "c = copy.deepcopy(network)\n"
                "old = network.classifier\n"
                "c.classifier = nn.Linear(old.in_features, classes)\n"
                "c.classifier.weight.data = old.weight.data[-classes:].clone()\n"
                "return c",
                "rows of the old",
            ),
            (
                "import copy\n"
                "c = copy.deepcopy(network)\n"
                "c.classifier = nn.Linear(network.classifier.in_features, classes)\n"
                "c.classifier.bias.data = network.classifier.bias.data[:classes].clone()\n"
                "return c",
                "rows of the old",
            ),
            (
                "network.classifier = nn.Linear(network.classifier.in_features, classes)\n"
                "return network",
                "the original has changed",
            ),
            (
                "from copy import copy\n\n"
                "changed = copy(network)\n"
                "changed._modules = dict(network._modules)\n"
                "changed.classifier = nn.Linear(network.classifier.in_features, classes)\n"
                "return changed",
                "the original has changed",
            ),
            ("return library.DenseNet(4, (2, 2), 8, num_classes=classes)", "keep the features"),
            (COPY + "return changed", "3 classes"),
            (
                COPY + "changed.classifier = nn.Linear(network.classifier.in_features, 3)\n"
                "return changed",
                "7 classes",
            ),
            (
                COPY + "new = nn.Linear(network.classifier.in_features, classes)\n"
                "new.weight.data = network.classifier.weight.data[:classes].clone()\n"
                "changed.classifier = new\n"
                "return changed",
                "not rows of the old",
            ),
            (
                COPY + "changed.classifier = nn.Linear(network.classifier.in_features, classes)\n"
                "for mine, its in zip(changed.modules(), network.modules()):\n"
                "    if isinstance(its, nn.BatchNorm2d):\n"
                "        mine.running_mean = its.running_mean\n"
                "return changed",
                "the original has changed",
            ),
            (
                COPY + "new = nn.Linear(network.classifier.in_features, classes)\n"
                "mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
                "return nn.Sequential(changed.features, *mean, new)",
                "with features",
            ),
            ("pass", "return a network"),
        ],
    },
}
