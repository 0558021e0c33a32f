"""The rivals: against the formula in functional calls, published counts, and the dense block."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from densenet_lib import analysis, checks
from densenet_lib.densenet import DenseBlock, DenseNet
from densenet_lib.residual import (
    PlainBlock,
    ResidualBlock,
    ResidualLayer,
    ResidualNet,
    make_network,
    remove_norms,
)


def by_hand(state, images, blocks, residual, training):
    """Compute the logits from the weights alone, with functional calls."""

    def norm_relu(x, name):
        mean, var = (state[f"{name}.running_{what}"].clone() for what in ("mean", "var"))
        scale, shift = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.batch_norm(x, mean, var, scale, shift, training).clamp(min=0)

    x = F.conv2d(images, state["features.conv0.weight"], padding=1)
    for block, layers in enumerate(blocks, start=1):
        for layer in range(1, layers + 1):
            name = f"features.block{block}.layer{layer}"
            stride = 2 if block > 1 and layer == 1 else 1
            y = norm_relu(x, f"{name}.norm1")
            y = F.conv2d(y, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            y = F.conv2d(norm_relu(y, f"{name}.norm2"), state[f"{name}.conv2.weight"], padding=1)
            if residual:
                kept = F.avg_pool2d(x, 1, stride)  # a window of one pixel: every second one
                y = torch.cat([y[:, : x.shape[1]] + kept, y[:, x.shape[1] :]], dim=1)
            x = y
    x = norm_relu(x, "features.norm5").flatten(2).mean(2)
    return x @ state["classifier.weight"].T + state["classifier.bias"]


@pytest.mark.parametrize("kind", ["residual", "plain"])
@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_formula(kind, training):
    model = ResidualNet((2, 1, 2), (4, 6, 7), kind=kind, num_classes=3).double().train(training)
    checks.randomise(model, torch.Generator().manual_seed(0))
    state = copy.deepcopy(model.state_dict())
    images = torch.randn(3, 3, 9, 14, dtype=torch.float64)
    expected = by_hand(state, images, (2, 1, 2), kind == "residual", training)
    other = by_hand(state, images, (2, 1, 2), kind != "residual", training)
    found = model(images)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(found, other, rtol=1e-3)


@pytest.mark.parametrize(
    ("n", "parameters"), [(3, 269_722), (5, 464_154), (9, 853_018), (18, 1_727_962)]
)
def test_published_counts(n, parameters):
    """He et al., CVPR 2016, table 6: 0.27M, 0.46M, 0.85M, 1.7M for depths 20, 32, 56, 110."""
    with torch.device("meta"):
        model = ResidualNet((n,) * 3)
    convolutions = 9 * (3 * 16 + sum(2 * n * w * w for w in (16, 32, 64)))
    convolutions -= 9 * (16 * 32 + 32 * 64)  # the first layers of blocks 2 and 3 read half
    norms = 2 * (2 * n * (16 + 32 + 64) - 16 - 32 + 64)  # norm1 of those two reads half; norm5
    assert analysis.count_parameters(model) == convolutions + norms + 650 == parameters
    depth = sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in model.modules())
    assert depth == 6 * n + 2


def test_macs_of_resnet_20_by_hand():
    """At 32x32: each full layer of a block costs the same, 9 * 16 * 16 * 1024 a convolution."""
    one = 9 * 16 * 16 * 32 * 32
    expected = 9 * 3 * 16 * 1024 + one * (6 + 5.5 + 5.5) + 640
    assert analysis.count_macs(ResidualNet()) == expected


def test_the_ledger_reads_it():
    model = ResidualNet((2, 2, 2), (8, 16, 32))
    found = analysis.ledger(model)
    names = [stage.stage for stage in found.stages]
    assert names == ["stem", "block1", "block2", "block3", "last norm", "classifier"]
    assert [stage.size for stage in found.stages[1:4]] == ["32x32", "16x16", "8x8"]
    assert sum(stage.parameters for stage in found.stages) == found.total.parameters
    assert sum(stage.macs for stage in found.stages) == analysis.count_macs(model)
    assert found.total.layers == 14 and found.total.connections == 0
    assert found.total.activation_bytes == analysis.activation_bytes(model)


def test_a_linear_residual_block_is_a_dense_block_with_tied_weights():
    """x + f(x), summed out: the input and every correction, all read with the same weights."""
    torch.manual_seed(0)
    width, layers = 3, 4
    weights = [torch.randn(width, width, 3, 3, dtype=torch.float64) for _ in range(layers)]
    x = start = torch.randn(2, width, 5, 5, dtype=torch.float64)
    maps = [start]
    for weight in weights:
        x = x + F.conv2d(x, weight, padding=1)
        tied = weight.repeat(1, len(maps), 1, 1)  # the same weights for every source
        maps.append(F.conv2d(torch.cat(maps, dim=1), tied, padding=1))
    assert torch.allclose(x, sum(maps))


def test_plain_and_residual_differ_by_the_sums_alone():
    torch.manual_seed(0)
    residual, plain = ResidualBlock(3, 4, 4).double(), PlainBlock(3, 4, 4).double()
    plain.load_state_dict(residual.state_dict())
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        for layer in residual.values():
            layer.conv2.weight.zero_()
    assert torch.equal(residual(x), x)
    for layer in plain.values():
        nn.init.dirac_(layer.conv1.weight), nn.init.dirac_(layer.conv2.weight)
    assert not torch.allclose(plain(x), x)
    assert (remove_norms(plain)(x) == x.clamp(min=0)).all()


def test_remove_norms_leaves_none_and_dense_blocks_work_without():
    for module in (DenseBlock(3, 4, 2, bn_size=None), DenseNet(4, (2, 2)), ResidualNet((1, 1, 1))):
        bare = remove_norms(module)
        assert not [m for m in bare.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bare(torch.randn(1, 3, 32, 32)).shape == (1, 10)


def test_arguments_build_it_again():
    for network in (ResidualNet((1, 2), (4, 8), kind="plain"), DenseNet(4, (2, 2))):
        again = make_network(**network.arguments)
        assert type(again) is type(network)
        again.load_state_dict(network.state_dict())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ResidualNet(kind="dense"), "'residual', 'plain'"),
        (lambda: ResidualNet((3, 3)), "2 blocks and 3 widths"),
        (lambda: ResidualNet(()), "0 blocks"),
        (lambda: ResidualNet(num_classes=0), "num_classes is 0"),
        (lambda: ResidualNet(num_classes="3"), "num_classes is '3'"),
        (lambda: ResidualNet((3, 0, 3)), "at least 1"),
        (lambda: ResidualNet(widths=(16, 16.5, 32)), "whole numbers"),
        (lambda: ResidualNet(widths=(16, 8, 8)), "at least as many maps"),
        (lambda: ResidualLayer(0, 4), "1 or more must arrive"),
        (lambda: ResidualBlock(0, 4, 4), "at least 1"),
    ],
)
def test_impossible_arguments_get_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
