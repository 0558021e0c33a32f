"""The rivals, in the words of densenet.py: a residual network, and the plain one without its sums.

Source: He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016, for the order
(norm, ReLU, convolution); "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2,
for the form. Used in notebooks 09, 10 and 14. N images, C channels (feature maps), H x W pixels.
"""

from collections.abc import Iterable

from torch import nn
from torch.nn import functional as F

from densenet_lib.densenet import DenseNet


class ResidualLayer(nn.Sequential):
    """Compute what is added to the maps: norm, ReLU and 3x3 convolution, twice.

    Args:   stride: 2 halves height and width, rounded up.
    Shape:  (N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride).
    Raises: ValueError if a channel count is below 1 or there would be fewer maps than arrive.
    Source: He et al., ECCV 2016, figure 1b, "full pre-activation".
    """

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        if not 1 <= in_channels <= out_channels:
            raise ValueError(
                f"a layer from {in_channels} maps to {out_channels} cannot be added to its input: "
                "it must make at least as many maps as arrive, and 1 or more must arrive"
            )
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)


class ResidualBlock(nn.ModuleDict):
    """Stack `num_layers` residual layers of one width; the first may widen and halve the picture.

    Args:   stride: of the first layer.
    Shape:  (N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride).
    Raises: ValueError as for ResidualLayer, or if there is no layer.
    """

    def __init__(self, num_layers, in_channels, out_channels, stride=1):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers is {num_layers!r}: it must be at least 1")
        for i in range(num_layers):
            arriving = in_channels if i == 0 else out_channels
            self[f"layer{i + 1}"] = ResidualLayer(arriving, out_channels, stride if i == 0 else 1)

    def forward(self, x):
        for layer in self.values():
            x = shortcut(x, layer) + layer(x)  # a dense block: torch.cat([x, layer(x)], dim=1)
        return x


class PlainBlock(ResidualBlock):
    """The same layers with nothing added: each reads only what the one before it made."""

    def forward(self, x):
        for layer in self.values():
            x = layer(x)
        return x


def shortcut(x, layer):
    """Return x, or, beside a layer that widens or halves, x in that layer's shape: no parameters.

    Every second pixel of it, and zeros for the new maps: "option A" of He et al., CVPR 2016.
    """
    more, stride = layer.conv1.out_channels - layer.conv1.in_channels, layer.conv1.stride[0]
    if more == 0 and stride == 1:
        return x
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, more))


BLOCKS = {"residual": ResidualBlock, "plain": PlainBlock}


class ResidualNet(nn.Module):
    """Classify pictures: a 3x3 convolution, blocks of residual layers, and a classifier.

    The defaults are ResNet-20 of the CIFAR experiments: 269,722 parameters, as many as in the
    original order (convolution, norm, ReLU).

    Args:   block_config: layers in each block, two convolutions a layer; (n, n, n) makes a network
            of depth 6n + 2.  widths: maps in each block.  kind: "residual", or "plain" for the
            same layers without sums.
    Shape:  (N, 3, H, W), normalised pixels -> (N, num_classes), logits.
    Raises: ValueError for impossible arguments.
    Source: He et al., CVPR 2016, section 4.2, in the order of ECCV 2016.
    """

    def __init__(
        self, block_config=(3, 3, 3), widths=(16, 32, 64), *, kind="residual", num_classes=10
    ):
        super().__init__()
        if kind not in BLOCKS:
            raise ValueError(f"kind is {kind!r}: choose one of {', '.join(map(repr, BLOCKS))}")
        block_config, widths = _sizes(block_config), _sizes(widths)
        if not hasattr(num_classes, "__index__") or num_classes < 1:
            raise ValueError(f"num_classes is {num_classes!r}: it must be a whole number above 0")
        num_classes = int(num_classes)
        if not block_config or len(block_config) != len(widths):
            raise ValueError(
                f"there are {len(block_config)} blocks and {len(widths)} widths: give each block "
                "its layers and its width"
            )
        self.features = nn.Sequential()
        self.features.conv0 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        channels = widths[0]
        for i, (num_layers, width) in enumerate(zip(block_config, widths, strict=True), start=1):
            block = BLOCKS[kind](num_layers, channels, width, stride=1 if i == 1 else 2)
            self.features.add_module(f"block{i}", block)
            channels = width
        self.features.norm5 = nn.BatchNorm2d(channels)
        self.features.relu5 = nn.ReLU()
        self.classifier = nn.Linear(channels, num_classes)
        self.arguments = {
            "kind": kind,
            "block_config": block_config,
            "widths": widths,
            "num_classes": num_classes,
        }
        self.reset_parameters()

    reset_parameters = DenseNet.reset_parameters  # He with fan-out: fair to both

    def forward(self, images):
        maps = self.features(images)  # (N, C, H', W')
        return self.classifier(maps.mean(dim=(2, 3)))  # global average pooling, then logits


def make_network(**arguments):
    """Build a DenseNet, or, if its arguments name a kind, a ResidualNet."""
    return (ResidualNet if "kind" in arguments else DenseNet)(**arguments)


def remove_norms(network):
    """Put nothing in the place of every batch norm; return the network, changed in place."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return network


def _sizes(values):
    """Return whole numbers of at least 1 as a tuple of ints."""
    values = tuple(values) if isinstance(values, Iterable) else (values,)
    if not all(hasattr(value, "__index__") and value >= 1 for value in values):
        raise ValueError(f"{values} must be whole numbers of at least 1")
    return tuple(map(int, values))
