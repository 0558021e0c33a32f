"""The heart: against torchvision, the origin's own classes, and the published counts."""

import math
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision
from origin_network import OriginNetwork
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from densenet_lib import analysis, checks
from densenet_lib.densenet import (
    DenseBlock,
    DenseLayer,
    DenseNet,
    Transition,
    densenet121,
    densenet161,
    densenet169,
    densenet201,
    densenet264,
    densenet_cifar,
    named_network,
)

IMAGENET = [121, 161, 169, 201]
OURS = {121: densenet121, 161: densenet161, 169: densenet169, 201: densenet201, 264: densenet264}


def largest_difference(a, b):
    return (a - b).abs().max().item()


# The origin


def test_the_default_network_is_the_origins():
    origin, ours = OriginNetwork().double(), DenseNet().double()
    assert analysis.count_parameters(ours) == 187_450
    pairs = list(zip(origin.state_dict().values(), ours.state_dict().values(), strict=True))
    assert all(theirs.shape == mine.shape for theirs, mine in pairs)

    checks.randomise(origin, torch.Generator().manual_seed(0))
    ours.load_state_dict(dict(zip(ours.state_dict(), origin.state_dict().values(), strict=True)))
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    for training in (True, False):
        ours.train(training), origin.train(training)
        assert largest_difference(ours(images), origin(images)) < 1e-10
    ours(images).square().sum().backward(), origin(images).square().sum().backward()
    for mine, theirs in zip(ours.parameters(), origin.parameters(), strict=True):
        assert largest_difference(mine.grad, theirs.grad) < 1e-10 * (1 + theirs.grad.abs().max())


# Published counts

CIFAR = [  # depth, k, bottleneck, stem, classes, parameters, MACs
    (40, 12, False, None, 10, 1_019_722, 264_812_928),
    (40, 12, False, 24, 10, 1_059_298, 282_917_328),
    (100, 12, False, None, 10, 6_979_642, 1_769_516_448),
    (100, 24, False, None, 10, 27_249_082, 6_889_347_744),
    (100, 12, True, None, 10, 769_162, 287_929_692),
    (100, 12, True, None, 100, 800_032, None),
    (250, 24, True, None, 10, 15_324_406, 5_418_785_724),
    (190, 40, True, None, 10, 25_624_430, 9_301_945_740),
    (40, 36, True, None, 10, 1_542_682, 647_298_936),
    (40, 48, True, None, 10, 2_733_130, 1_149_867_168),
    (40, 60, True, None, 10, 4_261_690, 1_795_836_360),
    (40, 12, True, None, 10, 176_122, 72_365_352),
    (22, 12, True, None, 10, 71_686, 31_238_322),
]


@pytest.mark.parametrize(
    ("depth", "k", "bottleneck", "stem", "classes", "parameters", "macs"), CIFAR
)
def test_cifar_counts(depth, k, bottleneck, stem, classes, parameters, macs):
    with torch.device("meta"):
        model = densenet_cifar(
            depth, k, bottleneck=bottleneck, num_init_features=stem, num_classes=classes
        )
    assert analysis.count_parameters(model) == parameters
    if macs:
        assert analysis.count_macs(model) == macs
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in model.modules()) == depth


@pytest.mark.parametrize(
    ("depth", "parameters", "giga_macs"),
    [
        (121, 7_978_856, 2.834),
        (161, 28_681_000, 7.728),
        (169, 14_149_480, 3.360),
        (201, 20_013_928, 4.291),
    ],
)
def test_imagenet_counts(depth, parameters, giga_macs):
    with torch.device("meta"):
        model, theirs = OURS[depth](), getattr(torchvision.models, f"densenet{depth}")()
    assert analysis.count_parameters(model) == analysis.count_parameters(theirs) == parameters
    assert round(analysis.count_macs(model, (3, 224, 224)) / 1e9, 3) == giga_macs


def test_densenet264_is_table_1_and_one_layer_deeper_than_its_name():
    with torch.device("meta"):
        model = densenet264()
    blocks = [len(model.features.get_submodule(f"denseblock{i}")) for i in (1, 2, 3, 4)]
    assert blocks == [6, 12, 64, 48]
    layers = sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in model.modules())
    assert layers == 1 + 2 * sum(blocks) + 3 + 1 == 265


# torchvision


@pytest.mark.parametrize("depth", IMAGENET)
def test_torchvision_weights_load_and_agree(depth):
    theirs = getattr(torchvision.models, f"densenet{depth}")().double()
    ours = OURS[depth]().double()
    checks.randomise(theirs, torch.Generator().manual_seed(depth))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for training in (False, True):
        ours.train(training), theirs.train(training)
        with torch.no_grad():
            assert largest_difference(ours(images), theirs(images)) < 1e-10
    for name, value in theirs.named_buffers():
        assert largest_difference(ours.get_buffer(name), value) < 1e-10, name


def test_same_module_as_torchvision_with_gradients():
    theirs = torchvision.models.DenseNet(8, (2, 3), 16, num_classes=5)
    checks.assert_same_module(
        DenseNet(8, (2, 3), 16, num_classes=5, stem="imagenet"), theirs, (4, 3, 64, 64)
    )


def test_old_and_wrapped_checkpoints_load():
    model = DenseNet(4, (2, 2), 8)
    checks.randomise(model, torch.Generator().manual_seed(0))
    old = OrderedDict()
    for key, value in model.state_dict().items():
        for name in ("norm1", "norm2", "conv1", "conv2"):
            key = (
                key.replace(f"{name}.", f"{name[:-1]}.{name[-1]}.") if "denselayer" in key else key
            )
        old["module." + key] = value
    assert "module.features.denseblock1.denselayer1.norm.1.weight" in old
    fresh, before = DenseNet(4, (2, 2), 8), list(old)
    fresh.load_state_dict(old, strict=True)
    assert all(
        torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), old.values(), strict=True)
    )
    assert list(old) == before  # the caller's dictionary is left alone

    nested = nn.Sequential(DenseNet(4, (2, 2), 8))
    nested.load_state_dict({f"0.{key}": value for key, value in model.state_dict().items()})
    assert torch.equal(nested[0].classifier.weight, model.classifier.weight)


@pytest.mark.parametrize(
    "wrapped",
    ["_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod.", "module.module."],
)
def test_checkpoints_of_wrapped_networks_load(wrapped):
    model, fresh = DenseNet(4, (1, 1), 8), DenseNet(4, (1, 1), 8)
    fresh.load_state_dict({wrapped + key: value for key, value in model.state_dict().items()})
    assert torch.equal(fresh.classifier.weight, model.classifier.weight)


def test_a_wrong_checkpoint_is_still_refused():
    state = DenseNet(4, (2, 2), 8).state_dict()
    del state["classifier.bias"]
    with pytest.raises(RuntimeError, match="classifier.bias"):
        DenseNet(4, (2, 2), 8).load_state_dict(state)


# Initialisation, dropout, structure


def test_initialisation_is_the_authors():
    torch.manual_seed(0)
    model = densenet_cifar(40, 24)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5_000:
            height, width = module.kernel_size
            expected = math.sqrt(2 / (height * width * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05), name
            assert abs(module.weight.mean().item()) < 0.05 * expected, name
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name
    assert (model.classifier.bias == 0).all()
    bound = model.classifier.in_features**-0.5
    assert model.classifier.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_dropout_follows_every_convolution_but_the_first():
    model = densenet_cifar(22, 4, drop_rate=0.2)
    kinds = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Dropout))]
    assert isinstance(kinds[0], nn.Conv2d) and isinstance(kinds[1], nn.Conv2d)  # the stem's: none
    rest = kinds[1:]
    assert all(isinstance(m, nn.Conv2d) for m in rest[::2])
    assert all(isinstance(m, nn.Dropout) and m.p == 0.2 for m in rest[1::2])
    assert len(rest) == 2 * (22 - 2)


def test_dropout_acts_in_training_only():
    layer = DenseLayer(8, 4, drop_rate=0.5)
    maps = torch.randn(16, 8, 8, 8)
    share = (layer(maps) == 0).double().mean().item()
    assert 0.45 < share < 0.55
    layer.eval()
    assert torch.equal(layer(maps), layer(maps)) and (layer(maps) != 0).all()


def test_basic_layer_has_one_convolution():
    layer = DenseLayer(24, 12, bn_size=None)
    assert (
        list(layer.state_dict())[0] == "norm1.weight" and "conv2.weight" not in layer.state_dict()
    )
    assert layer.conv1.kernel_size == (3, 3)
    assert layer(torch.randn(2, 24, 5, 7)).shape == (2, 12, 5, 7)


def test_block_keeps_its_input_and_transition_halves():
    block, maps = DenseBlock(3, 8, 4), torch.randn(2, 8, 6, 9)
    out = block(maps)
    assert out.shape == (2, 20, 6, 9)
    assert torch.equal(out[:, :8], maps)
    assert Transition(20, 10)(out).shape == (2, 10, 3, 4)


def test_inputs_are_left_alone():
    for module in (DenseLayer(3, 4), DenseBlock(2, 3, 4), Transition(3, 2), DenseNet(4, (1, 1), 8)):
        images = torch.randn(2, 3, 8, 8)
        kept = images.clone()
        module(images)
        assert torch.equal(images, kept), type(module)


def test_compression_rounds_down():
    assert DenseNet(3, (1, 1), 8).features.transition1.conv.out_channels == 5  # floor(11 / 2)


def test_smallest_pictures_pass_and_smaller_are_refused():
    for stem, smallest in (("conv", 4), ("imagenet", 13)):
        model = DenseNet(4, (1, 1, 1), 8, stem=stem).eval()
        assert model(torch.randn(1, 3, smallest, smallest)).shape == (1, 10)
        for size in ((smallest, smallest - 1), (smallest - 1, smallest)):
            with pytest.raises(ValueError, match="fewer blocks or larger pictures"):
                model(torch.randn(1, 3, *size))


# Impossible arguments

BAD = [
    (lambda: DenseLayer(0, 12), "in_channels is 0"),
    (lambda: DenseLayer(8, -1), "growth_rate is -1"),
    (lambda: DenseLayer(8, 4, bn_size=0), "bn_size is 0"),
    (lambda: DenseLayer(8, 4, drop_rate=1.0), "drop_rate is 1.0"),
    (lambda: DenseBlock(0, 8, 4), "num_layers is 0"),
    (lambda: Transition(8, 0), "out_channels is 0"),
    (lambda: DenseNet(num_classes=0), "num_classes is 0"),
    (lambda: DenseNet(num_init_features=2.5), "num_init_features is 2.5"),
    (lambda: DenseNet(block_config=()), "block_config must list the layers"),
    (lambda: DenseNet(block_config=6), "block_config must list the layers"),
    (lambda: DenseNet(block_config=(6, 2.5)), r"block_config\[1\] is 2.5"),
    (lambda: DenseNet(growth_rate=2.5), "growth_rate is 2.5"),
    (lambda: DenseNet(growth_rate="12"), "growth_rate is '12'"),
    (lambda: DenseNet(4, (1, 1), 8, compression=0.01), "compression 0.01 leaves none of 12 maps"),
    (lambda: DenseNet(drop_rate="0.5"), "drop_rate is '0.5'"),
    (lambda: DenseBlock(2, 8, 2.5), "growth_rate is 2.5"),
    (lambda: densenet_cifar(40.0, 12), "depth is 40.0"),
    (lambda: densenet_cifar(40, 2.5), "growth_rate is 2.5"),
    (lambda: DenseNet(compression=0), "compression is 0"),
    (lambda: DenseNet(compression=1.5), "compression is 1.5"),
    (lambda: DenseNet(stem="cifar"), "choose one of 'conv-bn-relu'"),
    (lambda: densenet_cifar(41, 12), "near it: 40 or 46"),
    (lambda: densenet_cifar(41, 12, bottleneck=False), "near it: 40 or 43"),
    (lambda: densenet_cifar(4, 12), "near it: 10"),
    (lambda: densenet_cifar(9, 12), "near it: 10"),
    (lambda: DenseNet()(torch.zeros(2, 1, 32, 32)), "3, H, W"),
    (lambda: DenseNet()(torch.zeros(3, 32, 32)), "3, H, W"),
    (lambda: DenseNet()(torch.zeros(2, 32, 32, 3)), "3, H, W"),
    (lambda: DenseNet()(torch.zeros(2, 3, 1, 1)), "shrinks below 1x1"),
    (lambda: DenseNet()(torch.zeros(1, 3, 2, 2)), "2 or more pictures"),
]


@pytest.mark.parametrize(("call", "sentence"), BAD)
def test_impossible_arguments_are_explained(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_one_picture_is_fine_where_statistics_exist():
    assert DenseNet()(torch.randn(1, 3, 4, 4)).shape == (1, 10)
    assert DenseNet().eval()(torch.randn(1, 3, 2, 2)).shape == (1, 10)


def test_hooks_see_what_each_part_did():
    """A ReLU in place would overwrite norm1's output, and refuse full backward hooks."""
    layer, seen = DenseLayer(3, 4), {}
    layer.norm1.register_forward_hook(lambda part, inputs, output: seen.update(norm1=output))
    layer.relu1.register_full_backward_hook(lambda *_: seen.update(backward=True))
    maps = torch.randn(2, 3, 8, 8)
    layer(maps).sum().backward()
    normed = nn.functional.batch_norm(maps, None, None, training=True)
    assert seen["backward"] and largest_difference(seen["norm1"], normed) < 1e-5


def test_numbers_of_numpy_are_numbers():
    network = DenseNet(np.int64(4), np.array([1, 2]), np.int32(8), drop_rate=np.float64(0.1))
    assert network.arguments["block_config"] == (1, 2)
    plain = {type(value) for value in network.arguments.values()}
    assert plain == {int, float, tuple, str}  # what a checkpoint can be read back with


# With other tools


def small():
    torch.manual_seed(0)
    return DenseNet(4, (2, 1), 8).eval(), torch.randn(2, 3, 12, 12)


def test_the_tools_that_take_torchvisions_network_take_ours():
    theirs = torchvision.models.DenseNet(8, (2, 3), 16, num_classes=5).eval()
    ours = DenseNet(8, (2, 3), 16, num_classes=5, stem="imagenet").eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert largest_difference(torch.fx.symbolic_trace(ours)(images), theirs(images)) < 1e-5
    nodes = ["features.denseblock1", "features.transition1.pool", "classifier"]
    maps = create_feature_extractor(ours, nodes)(images)
    assert largest_difference(maps["classifier"], theirs(images)) < 1e-5
    assert maps["features.denseblock1"].shape == (2, 16 + 2 * 8, 16, 16)
    assert torch.equal(ours.features[:5](images), maps["features.denseblock1"])


def test_export_with_sizes_left_open():
    model, images = small()
    open_sizes = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(model, (images,), dynamic_shapes=[open_sizes]).module()
    for shape in ((2, 3, 12, 12), (5, 3, 20, 16)):
        images = torch.randn(shape)
        assert largest_difference(exported(images), model(images)) < 1e-5


@pytest.mark.filterwarnings("ignore:Guards may run slower")  # PyTorch, of Python 3.13.0 alone
def test_compiles_as_one_graph():
    model, images = small()
    for training in (False, True):
        compiled = torch.compile(model.train(training), backend="eager", fullgraph=True)
        assert largest_difference(compiled(images), model(images)) < 1e-5
    with pytest.raises(ValueError, match="RGB pictures"):
        model(images[:, :1])


def test_an_exchanged_first_convolution_may_read_grey_pictures():
    model, images = small()
    model.features.conv0 = nn.Conv2d(1, model.features.conv0.out_channels, 3, padding=1)
    assert model(images[:, :1]).shape == (len(images), 10)
    with pytest.raises(ValueError, match=r"reads \(N, 1, H, W\), so give it batches of pictures"):
        model(images)


def test_pickled_on_meta_and_as_a_function():
    model, images = small()
    logits, state = model(images), model.state_dict()
    assert torch.equal(pickle.loads(pickle.dumps(model))(images), logits)
    assert pickle.loads(pickle.dumps(densenet161)) is densenet161
    with torch.device("meta"):
        empty = DenseNet(4, (2, 1), 8).eval()
    assert torch.equal(torch.func.functional_call(empty, state, images), logits)
    empty.load_state_dict(state, assign=True)
    assert torch.equal(empty(images), logits)
    assert largest_difference(model.half()(images.half()).float(), logits) < 0.02


def test_the_five_networks_say_what_they_are():
    for depth, build in OURS.items():
        assert build.__name__ == f"densenet{depth}" and f"of {depth} layers" in build.__doc__


def test_they_have_the_classes_and_the_dropout_that_are_asked_for():
    with torch.device("meta"):
        model = densenet121(7, drop_rate=0.2)
    assert model.classifier.out_features == 7
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.2}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("origin", DenseNet(num_classes=3)),
        ("bc-10-4", densenet_cifar(10, 4, num_classes=3)),
        ("7-4", densenet_cifar(7, 4, bottleneck=False, num_classes=3)),
    ],
)
def test_a_name_is_a_network_for_the_classes_that_are_asked_for(name, expected):
    assert named_network(name, 3).arguments == expected.arguments
