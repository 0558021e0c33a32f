"""Exercises of notebook 02: right answers written in other ways, and mistakes people make."""

LAYER = """\
self.norm1 = nn.BatchNorm2d(in_channels)
self.relu1 = nn.ReLU()
self.conv1 = nn.Conv2d(in_channels, 4 * growth_rate, 1, bias=False)
self.drop1 = nn.Dropout(drop_rate)
self.norm2 = nn.BatchNorm2d(4 * growth_rate)
self.relu2 = nn.ReLU()
self.conv2 = nn.Conv2d(4 * growth_rate, growth_rate, 3, padding=1, bias=False)
self.drop2 = nn.Dropout(drop_rate)
self.drop_rate = drop_rate"""
STEPS = """\
x = self.drop1(self.conv1(self.relu1(self.norm1(x))))
return self.drop2(self.conv2(self.relu2(self.norm2(x))))"""
SEEN = """\
image = torch.randn(1, layer.norm1.num_features, size, size).requires_grad_()
layer.eval()
middle = layer(image)[0, :, size // 2, size // 2]
"""

ANSWERS = {
    "2.1": {
        "right": [
            "c, k, b = in_channels, growth_rate, bn_size\n"
            "return 2 * c + b * k * c + 2 * b * k + 9 * b * k**2",
            "layer = library.DenseLayer(in_channels, growth_rate, bn_size)\n"
            "return sum(values.numel() for values in layer.parameters())",
            "width = bn_size * growth_rate\n"
            "return torch.tensor((2 + width) * in_channels + (2 + 9 * growth_rate) * width)",
        ],
        "wrong": [
            (
                "c, k = in_channels, growth_rate\nreturn 2 * c + 4 * k * c + 8 * k + 36 * k**2",
                "Where else does bn_size hide",
            ),
            (
                "width = bn_size * growth_rate\n"
                "return in_channels * width + 9 * width * growth_rate",
                "The norms are missing",
            ),
            (
                "width = bn_size * growth_rate\n"
                "return in_channels + in_channels * width + width + 9 * width * growth_rate",
                "a weight and a bias",
            ),
            ("return 2 * in_channels + 9 * in_channels * growth_rate", "two norms"),
            ("return None", "not None"),
        ],
    },
    "2.2": {
        "right": [
            "if bn_size >= 9:\n    return None\nreturn bn_size / (1 - bn_size / 9)",
            "return None if bn_size > 8 else torch.tensor(9.0) * bn_size / (9 - bn_size)",
            "if bn_size < 9:\n    return 9 / (9 / bn_size - 1)",
        ],
        "wrong": [
            ("return 9 * bn_size / (9 - bn_size)", "return None"),
            ("return 9 * bn_size / (9 + bn_size) if bn_size < 9 else None", "b = 4"),
            ("return bn_size / (9 - bn_size) if bn_size < 9 else None", "9bk"),
            ("return {4: 7.2, 6: 18}.get(bn_size)", "b = 1"),
            ("return 7.2", "b = 6"),
        ],
    },
    "2.3": {
        "right": [
            SEEN + "gradient = torch.autograd.grad(middle.sum(), image)[0]\n"
            "return (gradient != 0).any(dim=1).sum()",
            SEEN + "middle.sum().backward()\n"
            "rows = image.grad.abs().amax(dim=(0, 1))\n"
            "return len(rows[rows > 0])",
        ],
        "wrong": [
            (
                SEEN + "layer.train()(image)[0, :, size // 2, size // 2].sum().backward()\n"
                "return int(image.grad[0].abs().sum(dim=0).count_nonzero())",
                "evaluation mode",
            ),
            (
                SEEN + "layer(image).sum().backward()\n"
                "return int(image.grad[0].abs().sum(dim=0).count_nonzero())",
                "one pixel",
            ),
            (SEEN + "middle.sum().backward()\nreturn int(image.grad.count_nonzero())", "channel"),
            ("return 9", "25 pixels"),
        ],
    },
    "2.4": {
        "right": [
            (LAYER, STEPS),
            (
                LAYER,
                "drop = nn.functional.dropout\n"
                "for norm, conv in [(self.norm1, self.conv1), (self.norm2, self.conv2)]:\n"
                "    x = drop(conv(nn.functional.relu(norm(x))), self.drop_rate, self.training)\n"
                "return x",
            ),
        ],
        "wrong": [
            (
                (
                    LAYER,
                    "drop = nn.functional.dropout\n"
                    "x = drop(self.conv1(self.norm1(x).relu()), self.drop_rate)\n"
                    "return drop(self.conv2(self.norm2(x).relu()), self.drop_rate)",
                ),
                "in evaluation mode",
            ),
            (
                (LAYER, STEPS.replace("self.drop1(", "(")),
                "dropout",
            ),
            (
                (LAYER, STEPS.replace("self.relu1(self.norm1(x))", "self.norm1(self.relu1(x))")),
                "order of operations",
            ),
            (
                (LAYER.replace("norm2", "norm_2"), STEPS.replace("norm2", "norm_2")),
                "name your attributes",
            ),
        ],
    },
}
