"""Muon against the singular value decomposition, against PyTorch's SGD and PyTorch's own Muon."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from densenet_lib import muon
from densenet_lib.densenet import DenseNet, densenet_cifar
from densenet_lib.muon import CONVOLUTION_RATE, Muon, orthogonal
from densenet_lib.training import Recipe


@pytest.fixture(params=[(12, 432), (48, 27), (24, 24)], ids=str)
def matrix(request):
    """A matrix whose singular values fall from 1 to 1/100."""
    torch.manual_seed(0)
    rows, columns = request.param
    u, _, vh = torch.linalg.svd(torch.randn(rows, columns).double(), full_matrices=False)
    return u @ torch.logspace(0, -2, len(vh)).double().diag() @ vh


def test_orthogonal_changes_the_singular_values_alone(matrix):
    """Four times the polynomial on the singular values, worked out on them one by one."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(4):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(orthogonal(matrix), u @ s.diag() @ vh, rtol=0, atol=1e-6)


def test_orthogonal_makes_directions_nearly_equal(matrix):
    s = torch.linalg.svdvals(orthogonal(matrix))
    assert s.max() < 1.25 and s.median() > 0.6
    spread = torch.linalg.svdvals(orthogonal(matrix, iterations=10))
    assert 0.6 < spread.min() and spread.max() < 1.25  # even a hundredth of the strongest


def test_orthogonal_of_nothing_is_nothing():
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def gradients(model, steps):
    """Give the model the same random gradients each time: a generator of `steps` of them."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        yield


@pytest.mark.parametrize("nesterov", [True, False])
def test_what_is_no_convolution_steps_as_sgd_does(nesterov):
    torch.manual_seed(0)
    mine = DenseNet(4, (1, 1), 8)
    theirs = copy.deepcopy(mine)
    numbers = {"lr": 0.1, "momentum": 0.8, "nesterov": nesterov, "weight_decay": 0.01}
    for model, kind in ((mine, Muon), (theirs, torch.optim.SGD)):
        optimizer = kind(model.parameters(), **numbers)
        for _ in gradients(model, 3):
            optimizer.step()
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        same = torch.allclose(p, q, rtol=1e-5, atol=1e-6)
        assert same if p.dim() != 4 else not same


def test_a_convolution_does_not_decay():
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 6, 3, bias=False)
    other = copy.deepcopy(convolution)
    for model, decay in ((convolution, 0.0), (other, 10.0)):
        optimizer = Muon(model.parameters(), weight_decay=decay)
        for _ in gradients(model, 3):
            optimizer.step()
    assert torch.equal(convolution.weight, other.weight)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch before 2.9")
def test_a_1x1_convolution_steps_as_pytorchs_muon_does():
    """Three gradients are gathered, then both step once; theirs computes in bfloat16."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(20, 8, 1, bias=False)
    convolution.weight.data *= 8**0.5 / convolution.weight.norm()
    matrix = nn.Parameter(convolution.weight.detach().flatten(1).clone())
    mine = Muon(convolution.parameters(), momentum=0.9)
    theirs = torch.optim.Muon([matrix], weight_decay=0.0, momentum=0.9, ns_steps=4)
    before = matrix.detach().clone()
    for i, _ in enumerate(gradients(convolution, 4)):
        mine.param_groups[0]["lr"] = 0.1 * (i == 3)
        theirs.param_groups[0]["lr"] = 0.1 * CONVOLUTION_RATE * (i == 3)
        matrix.grad = convolution.weight.grad.flatten(1)
        mine.step()
        theirs.step()
    step = (matrix.detach() - before).norm()
    assert step == pytest.approx(
        0.1 * CONVOLUTION_RATE * 8**0.5, rel=0.25
    )  # most singular values are near 0.8
    assert (convolution.weight.detach().flatten(1) - matrix.detach()).norm() < 0.02 * step


def test_a_step_is_in_proportion_to_the_filters_and_forgets_the_gradients_length():
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 6, 3, bias=False)
    other = copy.deepcopy(convolution)
    other.weight.data *= 10
    for model, factor in ((convolution, 1), (other, 1000)):
        optimizer = Muon(model.parameters(), lr=0.1)
        for _ in gradients(model, 3):
            model.weight.grad *= factor
            optimizer.step()
    torch.testing.assert_close(10 * convolution.weight, other.weight, rtol=1e-4, atol=1e-5)


def test_a_rate_of_0_changes_nothing():
    """Filters of any length, as fine-tuning finds them; here the kernel's own length was lost."""
    model = DenseNet(4, (1, 1), 8)
    before = copy.deepcopy(model.state_dict())
    optimizer = Muon(model.parameters(), lr=0.0)
    for _ in gradients(model, 3):
        optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_convolution_keeps_its_length():
    torch.manual_seed(0)
    convolution = nn.Conv2d(20, 8, 3, bias=False)
    length = convolution.weight.norm().item()
    optimizer = Muon(convolution.parameters(), lr=0.1)
    for _ in gradients(convolution, 20):
        optimizer.step()
    assert convolution.weight.norm().item() == pytest.approx(length, rel=0.01)


@pytest.mark.parametrize("nesterov", [True, False])
def test_convolutions_together_step_as_each_alone(nesterov, monkeypatch):
    """As on a GPU: those with as many filters in one stack, zeros behind the shorter rows."""
    torch.manual_seed(0)
    alone = densenet_cifar(22, 6)  # 24 filters over 12 to 36 maps: both high and wide matrices
    together = copy.deepcopy(alone)
    for model, company in ((alone, muon._company), (together, len)):
        monkeypatch.setattr(muon, "_company", company)
        optimizer = Muon(model.parameters(), lr=0.1, nesterov=nesterov, weight_decay=0.01)
        for _ in gradients(model, 3):
            optimizer.step()
    for p, q in zip(alone.parameters(), together.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


class Count(TorchDispatchMode):
    """Count the operations, without those that only look at the same memory in another way."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.operations += not operation.is_view
        return operation(*args, **(kwargs or {}))


def operations_of_a_step(model):
    optimizer = Muon(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        with Count() as count:
            optimizer.step()
    return count.operations


def test_a_step_asks_for_no_value_and_takes_few_operations(monkeypatch):
    """On a GPU it would wait for a value; on the meta device, where there are none, it fails."""
    with torch.device("meta"):
        model = densenet_cifar(100, 12)
    together = operations_of_a_step(model)
    monkeypatch.setattr(muon, "_company", id)
    assert 5 * together < operations_of_a_step(model)


def test_filters_that_were_set_to_zero_begin_anew():
    convolution = nn.Conv2d(3, 6, 3, bias=False)
    optimizer = Muon(convolution.parameters(), lr=0.1)
    for _ in gradients(convolution, 3):
        optimizer.step()
        nn.init.zeros_(convolution.weight)
    for _ in gradients(convolution, 2):
        optimizer.step()
    assert convolution.weight.isfinite().all() and convolution.weight.norm() > 0.01


def test_filters_of_zeros_begin_to_learn():
    convolution = nn.Conv2d(3, 6, 3, bias=False)
    nn.init.zeros_(convolution.weight)
    optimizer = Muon(convolution.parameters(), lr=0.1)
    for _ in gradients(convolution, 3):
        optimizer.step()
    assert convolution.weight.isfinite().all() and convolution.weight.norm() > 0.01


@pytest.mark.parametrize("wrong", [{"lr": -1}, {"momentum": 1.5}, {"weight_decay": -0.1}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="none may be negative, and momentum is below 1"):
        Muon(nn.Conv2d(3, 6, 3).parameters(), **wrong)


def test_a_closure_computes_the_gradients():
    model = nn.Linear(2, 1)
    other = copy.deepcopy(model)

    def closure():
        model.zero_grad()
        loss = model(torch.ones(1, 2)).square().sum()
        loss.backward()
        return loss

    loss = Muon(model.parameters()).step(closure)
    torch.testing.assert_close(loss, other(torch.ones(1, 2)).square().sum())
    assert not torch.equal(model.weight, other.weight)


def test_a_parameter_without_gradient_stays():
    model = nn.Conv2d(3, 6, 3)
    before = copy.deepcopy(model.state_dict())
    Muon(model.parameters()).step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_going_on_from_a_saved_state_is_as_if_never_stopped():
    recipe = Recipe(nesterov=True, muon=True)
    torch.manual_seed(0)
    whole = DenseNet(4, (1, 1), 8)
    part = copy.deepcopy(whole)
    optimizer = recipe.optimizer(whole)
    assert isinstance(optimizer, Muon)
    for _ in gradients(whole, 4):
        optimizer.step()
    optimizer = recipe.optimizer(part)
    for i, _ in enumerate(gradients(part, 4)):
        if i == 2:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = recipe.optimizer(part)
            optimizer.load_state_dict(saved)
        optimizer.step()
    for p, q in zip(whole.parameters(), part.parameters(), strict=True):
        assert torch.equal(p, q)
