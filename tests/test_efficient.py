"""The efficient network against the plain one: the same function and training, fewer bytes."""

import copy
import os
import pickle
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from densenet_lib import analysis, checks, efficient
from densenet_lib.densenet import DenseBlock, DenseLayer, DenseNet, Transition, densenet_cifar
from densenet_lib.efficient import EfficientBlock, make_efficient, make_plain
from densenet_lib.residual import remove_norms

HERE = Path(__file__).resolve().parent


def theirs(**options):
    return torchvision.models.DenseNet(8, (2, 3), 16, num_classes=10, **options)


def frozen_norms(network):
    for norm in [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)][::3]:
        norm.eval()


def frozen_parameters(network):
    for parameter in list(network.parameters())[::4]:
        parameter.requires_grad_(False)


def quiet_dropout(network):
    for drop in (m for m in network.modules() if isinstance(m, nn.Dropout)):
        drop.eval()


def one_quiet_layer(network):
    network.features.denseblock1.denselayer1.eval()


def mean_of_all_batches(network):
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None


def without_running_statistics(network):
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def channels_last(network):
    network.to(memory_format=torch.channels_last)


def nothing(network):
    pass


def pair(network, prepare=nothing, dtype=torch.float64):
    """Return a network with weights that hide nothing, and its efficient twin."""
    checks.randomise(network.to(dtype), torch.Generator().manual_seed(0))
    plain = network.train()
    prepare(plain)
    return plain, make_efficient(copy.deepcopy(plain))


def train(network, images, steps=3):
    """Train for a few steps; return every loss, gradient and, at the end, the whole state."""
    seen = []
    labels = torch.arange(len(images), device=images.device) % 10
    for step in range(steps):
        torch.manual_seed(step)  # dropout
        pixels = images.clone(memory_format=torch.preserve_format).requires_grad_()
        loss = F.cross_entropy(network(pixels), labels)
        network.zero_grad()
        loss.backward()
        seen += [loss.detach(), pixels.grad]
        for parameter in network.parameters():
            if parameter.requires_grad:
                seen.append(parameter.grad.clone())
                parameter.data -= 0.01 * parameter.grad
    return seen + [value.clone() for value in network.state_dict().values()]


def assert_close(found, expected, tolerance=1e-12):
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == other.dtype
        worst = (mine - other).abs().max() / (1 + other.abs().max())
        assert worst <= tolerance, f"{worst:.1e} in {tuple(mine.shape)}"


@pytest.mark.parametrize(
    ("network", "size", "prepare"),
    [
        (DenseNet(), 16, nothing),
        (DenseNet(), 16, channels_last),
        (DenseNet(8, (2, 3), 8, stem="imagenet"), 64, nothing),
        (densenet_cifar(16, 4, drop_rate=0.2), 16, nothing),
        (densenet_cifar(13, 4, bottleneck=False), 16, nothing),
        (densenet_cifar(13, 4, bottleneck=False, drop_rate=0.2), 16, channels_last),
        (DenseNet(4, (2, 1, 2), 8), 19, nothing),
        (DenseNet(4, (2, 2), 8), 16, frozen_norms),
        (DenseNet(4, (2, 2), 8), 16, frozen_parameters),
        (DenseNet(4, (2, 2), 8), 16, mean_of_all_batches),
        (DenseNet(4, (2, 2), 8), 16, without_running_statistics),
        (densenet_cifar(16, 4, drop_rate=0.2), 16, quiet_dropout),
        (theirs(), 64, nothing),
        (theirs(drop_rate=0.1), 64, one_quiet_layer),
        (theirs(drop_rate=0.1), 64, channels_last),
    ],
)
def test_training_is_the_same(network, size, prepare):
    plain, efficient = pair(network, prepare)
    images = torch.randn(4, 3, size, size, dtype=torch.float64)
    if prepare is channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    assert_close(train(efficient, images), train(plain, images))
    efficient.load_state_dict(plain.state_dict())
    plain.eval(), efficient.eval()
    assert torch.equal(efficient(images), plain(images))


def test_a_mode_changed_before_the_backward_pass_changes_no_gradient():
    images, found = torch.randn(4, 3, 16, 16, dtype=torch.float64), []
    for network in pair(DenseNet(4, (2, 2), 8)):
        loss = network(images).square().sum()
        network.eval()
        loss.backward()
        found.append([parameter.grad for parameter in network.parameters()])
    assert_close(*found)


@pytest.mark.parametrize("few", [1, 2])  # one picture at a time; of five, three and two
def test_few_pictures_at_a_time_are_the_whole_batch(monkeypatch, few):
    monkeypatch.setattr(efficient, "FEW", few)
    for rate in (0, 0.2):
        plain, ours = pair(DenseNet(4, (2, 2), 8, drop_rate=rate))
        images = torch.randn(5, 3, 16, 16, dtype=torch.float64)
        assert_close(train(ours, images), train(plain, images))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 31, 32, 100])
def test_a_batch_is_cut_into_views_of_sixteen_pictures_or_more(count):
    maps = torch.randn(count, 3, 2, 2)
    cut = efficient._few(maps)
    assert torch.equal(efficient._whole(cut), maps)
    assert all(min(count, 16) <= len(few) < 32 and few._base is maps for few in cut)


def test_the_comparison_can_fail():
    plain, efficient = pair(DenseNet(4, (2, 2), 8))
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    efficient.features.denseblock1.denselayer2.norm1.momentum = 0.11
    with pytest.raises(AssertionError, match="e-"):
        assert_close(train(efficient, images), train(plain, images))


def test_torchvisions_own_efficient_network_counts_its_statistics_twice_and_ours_once():
    plain, efficient = pair(theirs())
    checkpointed = theirs(memory_efficient=True).double()
    checkpointed.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    ours = make_efficient(copy.deepcopy(checkpointed))
    expected = train(plain, images, steps=1)
    assert_close(train(ours, images, steps=1), expected)
    train(checkpointed, images, steps=1)
    layer = checkpointed.features.denseblock1.denselayer1
    assert [norm.num_batches_tracked.item() for norm in (layer.norm1, layer.norm2)] == [2, 1]


def test_gradients_are_those_of_small_differences():
    block = DenseBlock(2, 3, 2, bn_size=2).double()
    checks.randomise(block, torch.Generator().manual_seed(0))
    transition = Transition(7, 3).double()
    checks.randomise(transition, torch.Generator().manual_seed(1))
    make_efficient(both := nn.Sequential(block, transition))
    names = [name for name, _ in both.named_parameters()]

    def run(x, *weights):
        return torch.func.functional_call(both, dict(zip(names, weights, strict=True)), x)

    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, *both.parameters()), eps=1e-7, atol=1e-5)


def test_it_works_in_place_and_back():
    network = DenseNet(4, (2, 2), 8)
    before, parts = list(network.state_dict()), list(network.parameters())
    assert make_efficient(network) is network
    assert isinstance(network.features.denseblock1, (EfficientBlock, DenseBlock))
    assert make_efficient(network) is network  # again: nothing happens
    assert list(network.state_dict()) == before
    assert all(a is b for a, b in zip(network.parameters(), parts, strict=True))
    assert make_plain(network) is network
    assert {type(m) for m in network.modules()} == {type(m) for m in DenseNet().modules()}


def exchanged(place, part):
    """Return a network whose transition, or whose first layer, has another part in a place."""
    network = DenseNet(4, (1, 1), 8)
    inside = network.features.transition1
    if not hasattr(inside, place):
        inside = network.features.denseblock1.denselayer1
    setattr(inside, place, part)
    return network


class OtherConv(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).abs()


class InsideConv(nn.Conv2d):
    def _conv_forward(self, *arguments):
        return super()._conv_forward(*arguments).abs()


class OtherBlock(DenseBlock):
    pass


class OtherLayer(DenseLayer):
    def forward(self, x):
        return super().forward(x).abs()


def with_another(kind):
    """Return a network with another class of block or of layer, or a layer with another part."""
    network = DenseNet(4, (1, 1), 8)
    block = network.features.denseblock1
    if kind is OtherBlock:
        block.__class__ = kind
    elif kind is OtherLayer:
        block.denselayer1.__class__ = kind
    else:
        block.denselayer1.append(kind())
    return network


def norm_without_bias():
    norm = nn.BatchNorm2d(12)
    norm.bias = None
    return norm


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 3, 1)), "Sequential has no dense block of ours or of torch"),
        (torchvision.models.resnet18(), "ResNet has no dense block"),
        (remove_norms(DenseNet(4, (1, 1), 8)), "holds Identity.*: only an affine BatchNorm2d"),
        (exchanged("conv", nn.Conv2d(12, 6, 1)), "holds Conv2d.*: leave it plain"),
        (exchanged("norm", norm_without_bias()), "only an affine BatchNorm2d"),
        (exchanged("relu", nn.SiLU()), "holds SiLU.*: leave it plain"),
        (exchanged("relu2", nn.LeakyReLU()), "holds LeakyReLU"),
        (exchanged("pool", nn.MaxPool2d(2)), "holds MaxPool2d"),
        (exchanged("pool", nn.AvgPool2d(2, ceil_mode=True)), "holds AvgPool2d"),
        (exchanged("drop1", nn.Identity()), "holds Identity.*: only an nn.Dropout"),
        (exchanged("drop2", nn.Dropout2d(0.1)), "holds Dropout2d.*: only an nn.Dropout"),
        (
            exchanged("conv2", nn.Conv2d(16, 4, 3, padding=1, padding_mode="reflect", bias=False)),
            "holds Conv2d.*reflect",
        ),
        (exchanged("conv2", nn.Conv2d(16, 4, 3, padding=1, groups=4, bias=False)), "groups=4"),
        (exchanged("conv2", OtherConv(16, 4, 3, padding=1, bias=False)), "holds OtherConv"),
        (exchanged("conv", nn.Conv2d(12, 6, 3, padding=1, bias=False)), "holds Conv2d"),
        (exchanged("conv2", InsideConv(16, 4, 3, padding=1, bias=False)), "holds InsideConv"),
        (exchanged("relu", nn.Dropout(0.0)), "holds Dropout"),
        (exchanged("pool", nn.AvgPool2d(2, divisor_override=1)), "holds AvgPool2d"),
        (with_another(OtherBlock), "OtherBlock may have a forward of its own"),
        (with_another(OtherLayer), "OtherLayer may have a forward of its own"),
        (with_another(nn.ReLU), "holds ReLU"),
        (
            nn.SyncBatchNorm.convert_sync_batchnorm(DenseNet(4, (1, 1), 8)),
            "holds SyncBatchNorm.*: only an affine BatchNorm2d will do",
        ),
    ],
)
def test_what_cannot_be_made_efficient_is_refused_and_left_as_it_was(network, message):
    before = [type(module) for module in network.modules()]
    with pytest.raises(TypeError, match=message):
        make_efficient(network)
    assert [type(module) for module in network.modules()] == before


def test_parametrized_convolutions_are_computed():
    network = DenseNet(4, (2, 2), 8)
    torch.nn.utils.parametrizations.weight_norm(network.features.denseblock1.denselayer1.conv1)
    network.features.transition1.drop.eval()  # whatever its rate
    plain, efficient = pair(network)
    torch.testing.assert_close(
        plain(x := torch.randn(4, 3, 16, 16, dtype=torch.float64)), efficient(x)
    )


def test_one_value_for_each_channel_is_refused_in_a_sentence():
    block = make_efficient(DenseBlock(2, 3, 2))
    with pytest.raises(ValueError, match="no batch statistics: give more pictures"):
        block(torch.randn(1, 3, 1, 1))


def test_twice_in_one_pass_and_gradients_that_accumulate():
    found = []
    for network in pair(DenseNet(4, (2, 2), 8)):
        torch.manual_seed(0)
        first, second = torch.randn(2, 4, 3, 16, 16, dtype=torch.float64)
        (network(first).square().sum() + network(second)[:, 0].sum()).backward()
        network(second).square().sum().backward()
        found.append([p.grad for p in network.parameters()] + list(network.state_dict().values()))
    assert_close(*found)


def test_one_pass_can_go_back_twice_and_its_output_may_be_kept():
    found = []
    for network in pair(DenseNet(4, (2, 2), 8)):
        torch.manual_seed(0)
        images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
        loss = network(images).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        found.append([p.grad for p in network.parameters()])
    assert_close(*found)


def test_a_second_derivative_is_refused():
    _, network = pair(DenseNet(4, (1, 1), 8))
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(images).square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.square().sum().backward()


def test_a_pass_without_a_backward_pass_leaves_nothing_behind():
    block = make_efficient(DenseBlock(2, 3, 2))
    output = block(torch.randn(2, 3, 4, 4))
    gone = weakref.ref(output)
    del output
    assert gone() is None


def test_in_evaluation_and_without_gradients_hooks_fire_as_always():
    _, network = pair(DenseNet(4, (1, 1), 8))
    calls = []
    network.features.denseblock1.denselayer1.norm1.register_forward_hook(lambda *_: calls.append(1))
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    network.eval()(images)
    with torch.no_grad():
        network.train()(images)
    assert len(calls) == 2
    network(images)  # while it trains they do not, as make_efficient says
    assert len(calls) == 2


def test_it_is_pickled_and_copied():
    _, network = pair(DenseNet(4, (2, 2), 8))
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    again = pickle.loads(pickle.dumps(network))
    assert isinstance(again.features.denseblock1, EfficientBlock)
    assert_close(train(again, images), train(network, images), 0)


@pytest.mark.parametrize("prepare", [nothing, channels_last])
def test_half_the_digits_err_no_more_than_the_plain_network_does(prepare):
    plain, efficient = pair(DenseNet(8, (3, 3), 16), prepare, torch.float32)
    images = torch.randn(8, 3, 16, 16)
    exact = copy.deepcopy(plain).double()

    def gradients(network, dtype):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            logits = network(images.double() if dtype is torch.float64 else images)
        logits.double().square().mean().backward()
        return torch.cat([p.grad.double().flatten() for p in network.parameters()])

    truth = gradients(exact, torch.float64)
    theirs, ours = ((gradients(n, torch.bfloat16) - truth).norm() for n in (plain, efficient))
    assert 0 < ours < 1.5 * theirs < truth.norm()
    for mine, other in zip(efficient.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(mine.double(), other.double(), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_the_digits(dtype):
    plain, efficient = pair(DenseNet(8, (3, 3), 16), nothing, dtype)
    images = torch.randn(8, 3, 16, 16)
    exact = copy.deepcopy(plain).double()
    found = []
    for network in (exact, plain, efficient):
        logits = network(images.to(next(network.parameters()).dtype))
        logits.double().square().mean().backward()
        found.append(torch.cat([p.grad.double().flatten() for p in network.parameters()]))
    truth, theirs, ours = found
    assert (ours - truth).norm() < 1.5 * (theirs - truth).norm()


WORKER = """
import sys, torch
from torch.nn import functional as F
from densenet_lib import parallel
from densenet_lib.densenet import DenseNet
from densenet_lib.efficient import make_efficient
with parallel.process_group(torch.device("cpu")) as (number, processes, device):
    seen = []
    for efficient in (False, True):
        torch.manual_seed(0)
        network = DenseNet(4, (2, 2), 8).double()
        network = parallel.data_parallel(make_efficient(network) if efficient else network, device)
        torch.manual_seed(number)
        for _ in range(2):
            network.zero_grad()
            images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
            F.cross_entropy(network(images), torch.arange(4)).backward()
        seen.append([p.grad for p in network.parameters()] + list(network.buffers()))
    worst = max((a - b).abs().max().item() for a, b in zip(*seen))
    open(f"{sys.argv[1]}/{number}.txt", "w").write(str(worst))
"""


def test_two_processes(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(tmp_path / "worker.py"), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    for number in range(2):
        assert float((tmp_path / f"{number}.txt").read_text()) < 1e-12


def test_memory_grows_by_the_same_amount_for_each_layer():
    images = torch.randn(2, 3, 8, 8)

    def bend(make):  # second difference of the bytes, against the first: 0 on a straight line
        a, b, c = (
            analysis.saved_for_backward(make(densenet_cifar(depth, 4)), images)
            for depth in (40, 70, 100)
        )
        return (a - 2 * b + c) / (b - a)

    assert bend(lambda network: network) > 0.2
    assert abs(bend(make_efficient)) < 0.05
