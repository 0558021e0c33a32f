"""Counts against PyTorch's own counter, hand formulas, and facts that are known for sure."""

import gc
import weakref

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from densenet_lib import analysis
from densenet_lib.densenet import DenseLayer, DenseNet, densenet121, densenet_cifar
from densenet_lib.efficient import EfficientBlock, make_efficient


def test_parameters_are_the_trainable_numbers():
    assert analysis.count_parameters(nn.Linear(5, 3)) == 18
    assert analysis.count_parameters(nn.BatchNorm2d(7)) == 14  # statistics are not parameters


@pytest.mark.parametrize(
    ("model", "size"), [(DenseNet(), 32), (densenet_cifar(22, 12), 32), (densenet121(), 64)]
)
def test_macs_agree_with_pytorchs_counter(model, size):
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    assert 2 * analysis.count_macs(model, (3, size, size)) == counter.get_total_flops()


def test_grouped_convolution_and_linear():
    assert analysis.count_macs(nn.Conv2d(8, 8, 3, groups=4), (8, 5, 5)) == 8 * 2 * 9 * 9
    assert analysis.count_macs(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2)) == 60


def test_a_module_that_is_used_twice_counts_twice():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    assert analysis.count_macs(nn.Sequential(conv, nn.ReLU(), conv), (4, 5, 5)) == 2 * 25 * 9 * 16


def test_counting_leaves_the_model_alone():
    model = DenseNet(4, (1, 1), 8).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    analysis.ledger(model)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_activation_bytes_by_formula():
    c, k, pixels = 24, 12, 32 * 32
    maps = c + c + 4 * k + 4 * k  # into norm1, out of relu1, into norm2, out of relu2
    assert analysis.activation_bytes(DenseLayer(c, k), (c, 32, 32)) == 4 * pixels * maps


def test_activation_bytes_are_what_a_real_pass_keeps():
    model, images = DenseNet(4, (2, 2), 8), torch.randn(4, 3, 16, 16)
    kept = {}
    weights = {parameter.data_ptr() for parameter in model.parameters()}

    def keep(tensor):
        if tensor.dim() > 1 and tensor.untyped_storage().data_ptr() not in weights:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(images)
    assert sum(kept.values()) / 4 == analysis.activation_bytes(model, (3, 16, 16))
    del output


@pytest.mark.parametrize("training", [True, False])
def test_saved_bytes_by_formula(training):
    layer, images = DenseLayer(5, 3, bn_size=2).train(training), torch.randn(4, 5, 7, 6)
    maps = 5 + 5 + 6 + 6  # into norm1, out of relu1, into norm2, out of relu2
    statistics = 2 * (5 + 6)  # each norm's mean and inverse deviation
    found = analysis.saved_for_backward(layer, images)
    assert found == 4 * (4 * 7 * 6 * maps + statistics)
    assert layer.norm1.num_batches_tracked == 0  # a copy was run
    assert layer.training is training


def test_saved_bytes_agree_with_the_count_on_the_meta_device():
    model, images = DenseNet(4, (2, 2), 8), torch.randn(4, 3, 16, 16)
    norms = sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    maps = 4 * analysis.activation_bytes(model, (3, 16, 16))
    assert analysis.saved_for_backward(model, images) == maps + 4 * 2 * norms


def test_measuring_wakes_no_gpu_and_draws_nothing_that_stays(monkeypatch):
    asked, fork = [], torch.random.fork_rng
    monkeypatch.setattr(torch.random, "fork_rng", lambda d: asked.append(list(d)) or fork(d))
    images, before = torch.randn(2, 3, 4, 4), torch.get_rng_state()
    analysis.saved_for_backward(nn.Sequential(nn.Flatten(), nn.Dropout()), images)
    assert asked == [[]] and torch.equal(torch.get_rng_state(), before)


def test_what_was_measured_is_freed():
    kept, network = [], DenseNet(4, (1, 1), 8)
    network.features.relu0.register_forward_hook(lambda *args: kept.append(weakref.ref(args[2])))
    analysis.saved_for_backward(network, torch.randn(2, 3, 16, 16))
    gc.collect()
    assert len(kept) == 1 and kept[0]() is None


def test_an_efficient_network_has_the_accounts_of_the_plain_one():
    network = make_efficient(DenseNet(4, (2, 2), 8))
    assert str(analysis.ledger(network)) == str(analysis.ledger(DenseNet(4, (2, 2), 8)))
    assert isinstance(network.features.denseblock1, EfficientBlock)


def test_ledger_of_the_origin():
    table = analysis.ledger(DenseNet())
    assert [row.stage for row in table.stages] == [
        "stem", "denseblock1", "transition1", "denseblock2", "last norm", "classifier",
    ]  # fmt: skip
    assert [row.channels_out for row in table.stages] == [24, 96, 48, 192, 192, 10]
    assert [row.layers for row in table.stages] == [1, 12, 1, 24, 0, 1]
    assert [row.connections for row in table.stages] == [0, 21, 0, 78, 0, 0]
    assert table.total.layers == 39 and table.total.connections == 99
    assert table.total.macs == 85_895_040


@pytest.mark.parametrize(
    ("model", "size", "connections"),
    [
        (DenseNet(), 32, 99),
        (densenet_cifar(40, 12, bottleneck=False), 32, 234),
        (densenet_cifar(100, 12), 32, 408),
        (torchvision.models.densenet121(), 64, 535),
    ],
)
def test_ledger_rows_add_up_to_the_models_own_counts(model, size, connections):
    table = analysis.ledger(model, (3, size, size))
    for column in ("layers", "connections", "parameters", "macs", "activation_bytes"):
        assert sum(getattr(row, column) for row in table.stages) == getattr(table.total, column)
    assert table.total.parameters == analysis.count_parameters(model)
    assert table.total.macs == analysis.count_macs(model, (3, size, size))
    assert table.total.activation_bytes == analysis.activation_bytes(model, (3, size, size))
    assert table.total.connections == connections


def test_channels_of_densenet_bc_100():
    table = analysis.ledger(densenet_cifar(100, 12))
    assert [row.channels_out for row in table.stages][:6] == [24, 216, 108, 300, 150, 342]


def test_ledger_prints_as_text_and_html():
    table = analysis.ledger(DenseNet())
    lines = str(table).splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines[0]) <= 110
    assert "187,450" in lines[-1] and lines[-1].startswith("total")
    html = table._repr_html_()
    assert html.count("<tr>") == 8 and "85,895,040" in html


def test_blocks_and_transitions_with_two_figures_have_rows_of_their_own():
    names = [
        row.stage for row in analysis.ledger(DenseNet(4, (1,) * 11, 8), (3, 2048, 2048)).stages
    ]
    blocks = [f"denseblock{i}" for i in range(1, 12)]
    transitions = [f"transition{i}" for i in range(1, 11)]
    middle = [name for pair in zip(blocks, transitions, strict=False) for name in pair]
    assert names == ["stem", *middle, "denseblock11", "last norm", "classifier"]


def test_frozen_parameters_are_counted():
    model = DenseNet(4, (1, 1), 8)
    before = analysis.count_parameters(model)
    assert analysis.count_parameters(model.requires_grad_(False)) == before
    assert analysis.ledger(model).total.parameters == before


def test_convolutions_of_other_dimensions_are_counted():
    assert analysis.count_macs(nn.Conv1d(3, 5, 7, padding=3), (3, 11)) == 11 * 5 * 3 * 7
    assert analysis.count_macs(nn.Conv3d(2, 4, 3, padding=1, groups=2), (2, 4, 4, 4)) == 64 * 4 * 27


def test_several_outputs_are_no_obstacle():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(x), x

    assert analysis.count_macs(Two(), (3, 5, 5)) == 25 * 12


def test_products_outside_of_modules_are_refused():
    class Functional(nn.Conv2d):
        def forward(self, x):
            return nn.functional.conv2d(super().forward(x), self.weight)

    with pytest.raises(ValueError, match="Functional does 225 multiply-accumulates outside"):
        analysis.count_macs(Functional(3, 3, 1), (3, 5, 5))
