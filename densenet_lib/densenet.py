"""DenseNet, the whole of it: a layer, a block, a transition, and the network they make.

Source: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", CVPR
2017. Names are torchvision's, so that its weights load here. Built step by step in notebooks 02
to 05. Throughout: N images, C channels (feature maps), H x W pixels, growth rate k.
"""

import math
import operator
import re
from collections.abc import Iterable
from numbers import Real

import torch
from torch import nn

STEMS = ("conv-bn-relu", "conv", "imagenet")


class DenseLayer(nn.Sequential):
    """Compute `growth_rate` new feature maps from all the earlier ones.

    Args:   in_channels: C, maps arriving.  growth_rate: k, maps added.  drop_rate: probability
            in [0, 1) of zeroing a value after each convolution.  bn_size: the 1x1 convolution (the
            bottleneck) makes bn_size * k maps; None leaves it out (the paper's basic layer).
    Shape:  (N, C, H, W) -> (N, k, H, W); H and W unchanged.
    Raises: ValueError if a size is below 1 or drop_rate is outside [0, 1).
    Source: section 3, "Composite function" and "Bottleneck layers". Built in notebooks/02.
    """

    def __init__(self, in_channels, growth_rate, bn_size=4, drop_rate=0.0):
        super().__init__()  # an nn.Sequential runs its children in the order they are set
        in_channels, growth_rate = _whole(in_channels=in_channels, growth_rate=growth_rate)
        drop_rate = _rate(drop_rate)
        self.norm1 = nn.BatchNorm2d(in_channels)  # (N, C, H, W)
        self.relu1 = nn.ReLU()  # not in place: hooks see norm1's output as it was; no byte dearer
        if bn_size is None:
            self.conv1 = nn.Conv2d(in_channels, growth_rate, 3, padding=1, bias=False)  # (N, k, ..)
            self.drop1 = nn.Dropout(drop_rate)
            return
        (bn_size,) = _whole(bn_size=bn_size)
        self.conv1 = nn.Conv2d(in_channels, bn_size * growth_rate, 1, bias=False)  # (N, 4k, ..)
        self.drop1 = nn.Dropout(drop_rate)
        self.norm2 = nn.BatchNorm2d(bn_size * growth_rate)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(bn_size * growth_rate, growth_rate, 3, padding=1, bias=False)
        self.drop2 = nn.Dropout(drop_rate)  # (N, k, H, W)


class DenseBlock(nn.ModuleDict):
    """Stack `num_layers` dense layers, each reading everything made before it.

    Args:   num_layers: L, at least 1.  The others as for DenseLayer.
    Shape:  (N, C, H, W) -> (N, C + L * k, H, W); the first C maps are the input itself.
    Raises: ValueError if a size is below 1 or drop_rate is outside [0, 1).
    Source: section 3, "Dense connectivity", equation 2. Built in notebooks/03.
    """

    def __init__(self, num_layers, in_channels, growth_rate, bn_size=4, drop_rate=0.0):
        super().__init__()
        num_layers, in_channels, growth_rate = _whole(
            num_layers=num_layers, in_channels=in_channels, growth_rate=growth_rate
        )
        for i in range(num_layers):
            layer = DenseLayer(in_channels + i * growth_rate, growth_rate, bn_size, drop_rate)
            self[f"denselayer{i + 1}"] = layer

    def forward(self, x):
        for layer in self.values():
            x = torch.cat([x, layer(x)], dim=1)  # k maps more, the old ones first
        return x


class Transition(nn.Sequential):
    """Mix the maps into `out_channels` of them and halve the picture's height and width.

    Shape:  (N, C, H, W) -> (N, out_channels, H // 2, W // 2).
    Raises: ValueError if a channel count is below 1 or drop_rate is outside [0, 1).
    Source: section 3, "Pooling layers" and "Compression". The paper's words leave the ReLU out;
            the authors' code has it, and so have we. Built in notebooks/04.
    """

    def __init__(self, in_channels, out_channels, drop_rate=0.0):
        super().__init__()
        in_channels, out_channels = _whole(in_channels=in_channels, out_channels=out_channels)
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.drop = nn.Dropout(_rate(drop_rate))
        self.pool = nn.AvgPool2d(kernel_size=2, stride=2)


class DenseNet(nn.Module):
    """Classify pictures: a stem, dense blocks with transitions between them, and a classifier.

    The defaults are the small network that this series starts from: 39 layers deep, 187,450
    parameters. For the paper's networks see `densenet_cifar` and `densenet121` below.

    Args:   growth_rate: k, maps that each layer adds.  block_config: layers in each block.
            num_init_features: maps that the stem makes.  bn_size: see DenseLayer; None for the
            basic network.  drop_rate: dropout after every convolution but the stem's, where the
            authors' code has it.  compression: the share (0, 1] of its maps a transition keeps.
            stem: "conv-bn-relu" or "conv", a 3x3 convolution that keeps the size, with or without
            BN and ReLU; "imagenet", 7x7 with stride 2 and 3x3 max pooling, a quarter of the size.
    Shape:  (N, 3, H, W), normalised pixels -> (N, num_classes), logits.
    Raises: ValueError for impossible arguments, here or when an image of the wrong kind arrives.
    Source: section 3; initialisation from the authors' code. Built in notebooks/05.
    """

    def __init__(
        self,
        growth_rate=12,
        block_config=(6, 12),
        num_init_features=24,
        bn_size=4,
        drop_rate=0.0,
        num_classes=10,
        *,
        compression=0.5,
        stem="conv-bn-relu",
    ):
        super().__init__()
        growth_rate, num_init_features, num_classes = _whole(
            growth_rate=growth_rate, num_init_features=num_init_features, num_classes=num_classes
        )
        sizes = enumerate(block_config) if isinstance(block_config, Iterable) else ()
        block_config = _whole(**{f"block_config[{i}]": size for i, size in sizes})
        if not block_config:
            raise ValueError("block_config must list the layers of each block, such as (6, 12)")
        if bn_size is not None:
            (bn_size,) = _whole(bn_size=bn_size)
        drop_rate = _rate(drop_rate)
        if not isinstance(compression, Real) or not 0 < compression <= 1:
            raise ValueError(f"compression is {compression!r}: it must be above 0 and at most 1")

        self.features = _stem(stem, num_init_features)
        channels = num_init_features
        for i, num_layers in enumerate(block_config, start=1):
            block = DenseBlock(num_layers, channels, growth_rate, bn_size, drop_rate)
            self.features.add_module(f"denseblock{i}", block)
            channels += num_layers * growth_rate
            if i < len(block_config):
                kept = math.floor(channels * compression)
                if not kept:
                    raise ValueError(f"compression {compression} leaves none of {channels} maps")
                self.features.add_module(f"transition{i}", Transition(channels, kept, drop_rate))
                channels = kept
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.features.add_module("relu5", nn.ReLU())
        self.classifier = nn.Linear(channels, num_classes)

        self.stem, self.num_transitions = stem, len(block_config) - 1
        self.arguments = {  # what a checkpoint keeps: DenseNet(**arguments) is this network again
            "growth_rate": growth_rate,
            "block_config": block_config,
            "num_init_features": num_init_features,
            "bn_size": bn_size,
            "drop_rate": drop_rate,
            "num_classes": num_classes,
            "compression": float(compression),
            "stem": stem,
        }
        self.reset_parameters()
        self.register_load_state_dict_pre_hook(_translate_old_keys)

    def reset_parameters(self):
        """Draw weights as the authors did for CIFAR: He, fan-out, std sqrt(2 / (h * w * C_out))."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, (nn.BatchNorm2d, nn.Linear)):
                module.reset_parameters()
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images):
        if not isinstance(images, torch.fx.Proxy):  # torch.fx's stand-in has no sizes to check
            self._require_images(images)
        maps = self.features(images)  # (N, C, H', W')
        return self.classifier(maps.mean(dim=(2, 3)))  # global average pooling, then logits

    def _require_images(self, images):
        """Raise ValueError, in a sentence, for a batch that this network cannot read."""
        first = getattr(self.features, "conv0", None)  # exchanged, it may read grey pictures
        reads = getattr(first, "in_channels", 3)
        if images.dim() != 4 or images.shape[1] != reads:
            raise ValueError(
                f"images have shape {tuple(images.shape)}: this network reads (N, {reads}, H, W), "
                f"so give it batches of {'RGB ' * (reads == 3)}pictures with the channels second"
            )
        height, width = (self._final_size(size) for size in images.shape[2:])
        if height < 1 or width < 1:
            raise ValueError(
                f"a {images.shape[2]}x{images.shape[3]} picture shrinks below 1x1 in the "
                f"{self.num_transitions} transition(s) after the '{self.stem}' stem: "
                "use fewer blocks or larger pictures"
            )
        if self.training and images.shape[0] * height * width == 1:
            raise ValueError(
                "one picture of one final pixel has no batch statistics: in training mode use 2 or "
                "more pictures or larger ones, or call model.eval() first"
            )

    def _final_size(self, size):
        """Return the height or width of the last feature maps for a picture of `size` pixels."""
        if self.stem == "imagenet":
            size = math.ceil(size / 4)
        return size // 2**self.num_transitions


def densenet_cifar(
    depth, growth_rate, *, bottleneck=True, num_init_features=None, drop_rate=0.0, num_classes=10
):
    """Build a network of the paper for 32x32 pictures: three equal blocks and a bare 3x3 stem.

    Args:   depth: L, layers with weights: 6n + 4 with bottlenecks (DenseNet-BC), else 3n + 4.
            bottleneck: True for DenseNet-BC (compression 0.5), False for the basic DenseNet
            (compression 1).  num_init_features: the stem's maps; None takes the paper's, 2k for BC
            and 16 for basic; the authors' code has 2k for both.
    Raises: ValueError, naming the nearest depths that fit.
    Source: section 3, "Implementation Details", and section 4.
    """
    depth, growth_rate = _whole(depth=depth, growth_rate=growth_rate)
    step = 6 if bottleneck else 3
    if depth < step + 4 or (depth - 4) % step:
        below = max(depth - 4, step) // step * step + 4
        kind = "DenseNet-BC" if bottleneck else "basic DenseNet"
        near = f"{below} or {below + step}" if depth > below else f"{below}"
        raise ValueError(
            f"depth {depth} does not fit: a {kind} has {step}n + 4 layers; near it: {near}"
        )
    if num_init_features is None:
        num_init_features = 2 * growth_rate if bottleneck else 16
    return DenseNet(
        growth_rate,
        ((depth - 4) // step,) * 3,
        num_init_features,
        bn_size=4 if bottleneck else None,
        drop_rate=drop_rate,
        num_classes=num_classes,
        compression=0.5 if bottleneck else 1.0,
        stem="conv",
    )


def named_network(name, num_classes=10):
    """Build a network for 32x32 pictures from a short name.

    Args:   name: "origin", the series' network, DenseNet(); "bc-100-12", DenseNet-BC of depth 100
            and growth rate 12; "40-12", the basic DenseNet of depth 40 and growth rate 12.
    Raises: ValueError if the name has another form or the depth does not fit.
    """
    if name == "origin":
        return DenseNet(num_classes=num_classes)
    if form := re.fullmatch(r"(bc-)?(\d+)-(\d+)", name):
        bc, depth, k = form.groups()
        return densenet_cifar(int(depth), int(k), bottleneck=bool(bc), num_classes=num_classes)
    raise ValueError(
        f"there is no network {name!r}: use origin, bc-DEPTH-GROWTH such as bc-100-12, or "
        "DEPTH-GROWTH such as 40-12"
    )


def _imagenet(depth, growth_rate, block_config, num_init_features, source="table 1"):
    """Make the function that builds one of the networks for 224x224 pictures."""

    def build(num_classes=1000, drop_rate=0.0):
        sizes = growth_rate, block_config, num_init_features
        return DenseNet(*sizes, drop_rate=drop_rate, num_classes=num_classes, stem="imagenet")

    build.__name__ = build.__qualname__ = f"densenet{depth}"
    build.__doc__ = (
        f"Build the ImageNet network of {depth} layers, growth rate {growth_rate} and blocks of "
        f"{', '.join(map(str, block_config))} ({source})."
    )
    return build


densenet121 = _imagenet(121, 32, (6, 12, 24, 16), 64)
densenet161 = _imagenet(161, 48, (6, 12, 36, 24), 96, "the authors' repository")
densenet169 = _imagenet(169, 32, (6, 12, 32, 32), 64)
densenet201 = _imagenet(201, 32, (6, 12, 48, 32), 64)
densenet264 = _imagenet(264, 32, (6, 12, 64, 48), 64, "table 1; the blocks make 265 layers")


def _stem(kind, channels):
    """Build the layers that turn pixels into the first feature maps."""
    if kind not in STEMS:
        raise ValueError(f"stem is {kind!r}: choose one of {', '.join(map(repr, STEMS))}")
    stem = nn.Sequential()
    if kind == "imagenet":
        stem.conv0 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
    else:
        stem.conv0 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
    if kind != "conv":
        stem.norm0 = nn.BatchNorm2d(channels)
        stem.relu0 = nn.ReLU()
    if kind == "imagenet":
        stem.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
    return stem


def _translate_old_keys(module, state_dict, prefix, *_):
    """Rename, before loading, the keys of old networks (`norm.1`) and of wrapped ones.

    Wrappers put a word in front: `module.` (DistributedDataParallel), `_orig_mod.` (torch.compile).
    """
    for key in list(state_dict):
        new = re.sub(r"\b(module|_orig_mod)\.", "", key.removeprefix(prefix))
        new = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", new)
        state_dict[prefix + new] = state_dict.pop(key)


def _whole(**sizes):
    """Return the sizes as a tuple of ints, whatever kind of whole number they are (NumPy's too)."""
    for name, size in sizes.items():
        if not hasattr(size, "__index__") or size < 1:
            raise ValueError(f"{name} is {size!r}: it must be a whole number of at least 1")
    return tuple(map(operator.index, sizes.values()))


def _rate(drop_rate):
    if not isinstance(drop_rate, Real) or not 0 <= drop_rate < 1:
        raise ValueError(f"drop_rate is {drop_rate!r}: it must be at least 0 and below 1")
    return float(drop_rate)
