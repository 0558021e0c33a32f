"""Exercises of notebook 05: right answers written in other ways, and mistakes people make."""

CARRY = """\
c = channels
for layers in block_config[:-1]:
    c = (c + layers * growth_rate) // 2
c += block_config[-1] * growth_rate
"""
COPY = """\
from copy import deepcopy

changed = deepcopy(network)
"""

ANSWERS = {
    "5.1": {
        "right": [
            "return len(block_config) + 1 + sum(block_config) * (1 + bottleneck)",
            "depth = 2\n"
            "for i, layers in enumerate(block_config):\n"
            "    depth += (2 if bottleneck else 1) * layers + (i > 0)\n"
            "return torch.tensor(depth)",
        ],
        "wrong": [
            ("return 2 + 2 * sum(block_config) + len(block_config)", "only between two blocks"),
            ("return 1 + 2 * sum(block_config) + len(block_config)", "1 without bottleneck"),
            ("return sum(block_config) + len(block_config) + 1", "a layer has 2"),
            ("return 2 * sum(block_config) + 5", "only between two blocks"),
            ("return None", "not None"),
        ],
    },
    "5.2": {
        "right": [
            CARRY + "return c * classes + classes",
            "network = library.DenseNet(\n"
            "    growth_rate, block_config, channels, num_classes=classes\n"
            ")\n"
            "return analysis.count_parameters(network.classifier)",
            CARRY + "return torch.tensor(float((c + 1) * classes))",
        ],
        "wrong": [
            (
                "c = channels\n"
                "for n in block_config[:-1]:\n"
                "    c = round((c + n * growth_rate) / 2)\n"
                "return (c + block_config[-1] * growth_rate + 1) * classes",
                "round down",
            ),
            (CARRY + "return c * classes", "a bias for each class"),
            (
                "c = channels\n"
                "for layers in block_config:\n"
                "    c = (c + layers * growth_rate) // 2\n"
                "return (c + 1) * classes",
                "after 192 maps",
            ),
            (
                "c = channels\n"
                "for i, layers in enumerate(block_config, start=1):\n"
                "    c += layers * growth_rate\n"
                "    if i < len(block_config):\n"
                "        c /= 2\n"
                "return (c + 1) * classes",
                "round down",
            ),
            ("return 'many'", "not many"),
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
