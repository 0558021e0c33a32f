"""The checks learners rely on: they pass what is right, and each injected fault makes them fail."""

import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from densenet_lib import checks
from densenet_lib.densenet import DenseBlock, DenseLayer, Transition


class MyLayer(nn.Module):
    """A dense layer written by hand; each subclass below breaks it in one way."""

    def __init__(self, in_channels=6, growth_rate=4, drop_rate=0.2):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth_rate, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth_rate)
        self.conv2 = nn.Conv2d(4 * growth_rate, growth_rate, 3, padding=1, bias=False)
        self.drop_rate = drop_rate

    def drop(self, x):
        return nn.functional.dropout(x, self.drop_rate, self.training)

    def forward(self, x):
        x = self.drop(self.conv1(self.norm1(x).relu()))
        return self.drop(self.conv2(self.norm2(x).relu()))


class ReluFirst(MyLayer):
    def forward(self, x):
        x = self.drop(self.conv1(self.norm1(x.relu())))
        return self.drop(self.conv2(self.norm2(x).relu()))


class NoRelu(MyLayer):
    def forward(self, x):
        x = self.drop(self.conv1(self.norm1(x).relu()))
        return self.drop(self.conv2(self.norm2(x)))


class ForgottenDropout(MyLayer):
    def drop(self, x):
        return x


class DropoutInEvaluation(MyLayer):
    def drop(self, x):
        return nn.functional.dropout(x, self.drop_rate, True)


class OtherMomentum(MyLayer):
    def __init__(self):
        super().__init__()
        self.norm2.momentum = 0.01


class OtherEpsilon(MyLayer):
    def __init__(self):
        super().__init__()
        self.norm1.eps = 1e-3


class Renamed(MyLayer):
    def __init__(self):
        super().__init__()
        self.bn1 = self.norm1
        del self.norm1

    def forward(self, x):
        x = self.drop(self.conv1(self.bn1(x).relu()))
        return self.drop(self.conv2(self.norm2(x).relu()))


class WithBias(MyLayer):
    def __init__(self):
        super().__init__()
        self.conv2 = nn.Conv2d(16, 4, 3, padding=1)


class OtherWidth(MyLayer):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm2 = nn.Conv2d(6, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 4, 3, padding=1, bias=False)


class CutsGradient(MyLayer):
    def forward(self, x):
        return super().forward(x.detach()) + 0 * x.sum()


class SpoilsInput(MyLayer):
    def forward(self, x):
        out = super().forward(x.clone())
        x.mul_(0.5)
        return out


class OtherPlace(MyLayer):
    def forward(self, x):
        return super().forward(x)[:, :, :, :-1]


def test_the_right_layer_passes():
    checks.assert_same_module(MyLayer(), DenseLayer(6, 4, drop_rate=0.2), (4, 6, 5, 5))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (ReluFirst, "in training mode, the output differs"),
        (NoRelu, "the output differs"),
        (ForgottenDropout, "in training mode, the output differs"),
        (DropoutInEvaluation, "in evaluation mode, the output differs"),
        (OtherMomentum, "the updated norm2.running_mean differs"),
        (OtherEpsilon, "the output differs"),
        (Renamed, "missing .*norm1.bias.* extra .*bn1.bias"),
        (WithBias, "extra .*conv2.bias"),
        (OtherWidth, "conv1.weight has shape"),
        (CutsGradient, "the gradient of the input differs"),
        (SpoilsInput, "the input after the call differs"),
        (OtherPlace, r"the output has shape \(4, 4, 5, 4\)"),
    ],
)
def test_every_injected_fault_in_a_layer_is_caught(fault, sentence):
    with pytest.raises(AssertionError, match=sentence):
        checks.assert_same_module(fault(), DenseLayer(6, 4, drop_rate=0.2), (4, 6, 5, 5))


def test_a_gradient_in_front_of_a_norm_is_compared():
    """In training mode, where a norm makes the gradient of a plain sum 0."""
    layers = CutsGradient(), DenseLayer(6, 4, drop_rate=0.2)
    wrong, right = (nn.Sequential(layer, nn.BatchNorm2d(4)) for layer in layers)
    with pytest.raises(AssertionError, match="in training mode, the gradient of the input differs"):
        checks.assert_same_module(wrong, right, (4, 6, 5, 5))


class NewFirst(DenseBlock):
    def forward(self, x):
        for layer in self.values():
            x = torch.cat([layer(x), x], dim=1)
        return x


class NotDense(DenseBlock):
    def forward(self, x):
        out = [x]
        for layer in self.values():
            arriving = layer.norm1.num_features
            out.append(layer(nn.functional.pad(out[-1], (0,) * 5 + (arriving - out[-1].shape[1],))))
        return torch.cat(out, dim=1)


@pytest.mark.parametrize("fault", [NewFirst, NotDense])
def test_faults_in_a_block_are_caught(fault):
    with pytest.raises(AssertionError, match="the output differs"):
        checks.assert_same_module(fault(3, 6, 4), DenseBlock(3, 6, 4), (4, 6, 5, 5))


class NoReluTransition(Transition):
    def forward(self, x):
        return self.pool(self.conv(self.norm(x)))


class MaxTransition(Transition):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels)
        self.pool = nn.MaxPool2d(2)


@pytest.mark.parametrize("fault", [NoReluTransition, MaxTransition])
def test_faults_in_a_transition_are_caught(fault):
    with pytest.raises(AssertionError, match="the output differs"):
        checks.assert_same_module(fault(6, 3), Transition(6, 3), (4, 6, 6, 6))


def test_a_fresh_norm_would_hide_the_misplaced_relu():
    """Why the check randomises: in evaluation mode, a fresh norm and ReLU change places unseen."""
    wrong, right = ReluFirst().eval(), DenseLayer(6, 4, drop_rate=0.2).eval()
    wrong.load_state_dict(right.state_dict())
    maps = torch.randn(4, 6, 5, 5)
    torch.testing.assert_close(wrong(maps), right(maps))


def test_the_modules_are_left_alone():
    mine, reference = MyLayer(), DenseLayer(6, 4, drop_rate=0.2)
    kept = [{n: v.clone() for n, v in m.state_dict().items()} for m in (mine, reference)]
    checks.assert_same_module(mine, reference, (4, 6, 5, 5))
    for module, state in zip((mine, reference), kept, strict=True):
        assert all(torch.equal(v, state[n]) for n, v in module.state_dict().items())
        assert all(p.grad is None for p in module.parameters())


def test_exercise_reports(capsys):
    with checks.exercise("1.1"):
        assert True
    with checks.exercise("1.2"):
        raise NotImplementedError
    with pytest.raises(AssertionError, match="six maps"), checks.exercise("1.3"):
        raise AssertionError("six maps are missing")
    assert capsys.readouterr().out == ("Exercise 1.1: correct.\nExercise 1.2: not attempted yet.\n")


def test_no_drawn_parameter_is_near_nothing():
    module = nn.BatchNorm2d(200)
    checks.randomise(module, torch.Generator().manual_seed(0))
    for values in (module.weight, module.bias, module.running_mean):
        assert 0.5 <= values.abs().min() and values.min() < 0 < values.max()


REPLACED = """
def count(x):
    return x

def answer(x):
    return count(x)

with checks.exercise("1.4"):
    count = 3
    assert answer(count) == count
"""


def test_a_function_that_the_check_replaces_is_named():
    with pytest.raises(AssertionError, match="a count of its own, which has replaced yours: name"):
        exec(REPLACED, {"checks": checks})
    with pytest.raises(TypeError, match="not callable"):
        exec(REPLACED.replace("count = 3", "count(3)()"), {"checks": checks})


@pytest.mark.parametrize(
    "use", [lambda answer: answer - 1, lambda answer: answer.shape, tuple, torch.as_tensor]
)
def test_a_missing_return_is_named(use):
    with pytest.raises(AssertionError, match="None.*: is a `return` missing"):
        with checks.exercise("1.1"):
            use(None)


@pytest.mark.parametrize(
    "error", [TypeError("two arguments"), AttributeError("no shape"), RuntimeError("sizes differ")]
)
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(type(error), match=str(error)), checks.exercise("1.1"):
        raise error


@pytest.mark.parametrize(
    "answer", [0.75, torch.tensor(0.75), np.float32(0.75), Fraction(3, 4), 0.75 + 1e-9]
)
def test_a_right_number_passes_whatever_its_type(answer):
    assert checks.same(answer, 0.75) and checks.same([answer, 1], torch.tensor([0.75, 1]))


@pytest.mark.parametrize(
    "answer",
    [None, "0.75", [0.75], 0.7501, -0.75, float("nan"), torch.ones(2), {}, len, 0.75j, 10**400]
    + [torch.tensor(0.75 + 1j), np.complex64(0.75 + 1j)],
)
def test_a_wrong_answer_of_any_type_is_false_and_no_error(answer):
    assert checks.same(answer, 0.75) is False and checks.same(answer, [0.75, 0.7]) is False


class CeilPool(Transition):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True)  # the same for even sizes


class CutTo4(Transition):
    def forward(self, x):
        return super().forward(x)[:, :, :4, :4]


class BatchOf4(Transition):
    def forward(self, x):
        return super().forward(x).reshape(4, 3, x.shape[2] // 2, x.shape[3] // 2)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (CeilPool, r"\(5, 6, 9, 11\), in training mode, the output has shape \(5, 3, 5, 6\)"),
        (CutTo4, r"the output has shape \(5, 3, 4, 4\)"),
        (BatchOf4, "is a size fixed that may vary"),
    ],
)
def test_what_is_right_for_one_shape_only_is_caught(wrong, sentence):
    with pytest.raises(AssertionError, match=sentence):
        checks.assert_same_module(wrong(6, 3), Transition(6, 3), (4, 6, 8, 8))


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, 6)

    def forward(self, x):
        return self.norm(x).relu()


class ScaledAfterRelu(Grouped):
    def forward(self, x):
        weight, bias = self.norm.weight[:, None, None], self.norm.bias[:, None, None]
        return nn.functional.group_norm(x, 2).relu() * weight + bias


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.conv = nn.Parameter(torch.zeros(1)), nn.Conv2d(6, 6, 1)

    def forward(self, x):
        return x + self.scale * self.conv(x)


class SquareScaled(Scaled):
    def forward(self, x):
        return x + self.scale**2 * self.conv(x)  # as long as the scale is 0, the same


@pytest.mark.parametrize(("wrong", "right"), [(ScaledAfterRelu, Grouped), (SquareScaled, Scaled)])
def test_parameters_of_every_kind_are_drawn(wrong, right):
    checks.assert_same_module(right(), right(), (4, 6, 8, 8))
    with pytest.raises(AssertionError, match="the output differs"):
        checks.assert_same_module(wrong(), right(), (4, 6, 8, 8))


def test_frozen_parameters_and_norms_without_scale_can_be_compared():
    frozen = Transition(6, 3)
    frozen.norm.requires_grad_(False)
    checks.assert_same_module(frozen, copy.deepcopy(frozen), (4, 6, 8, 8))
    with pytest.raises(AssertionError, match="the gradient of norm.weight has none"):
        checks.assert_same_module(frozen, Transition(6, 3), (4, 6, 8, 8))
    plain = nn.Sequential(nn.BatchNorm2d(6, affine=False), nn.Conv2d(6, 3, 1))
    checks.assert_same_module(plain, copy.deepcopy(plain), (4, 6, 8, 8))


def test_a_module_for_one_size_of_picture_can_be_compared():
    reader = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    checks.assert_same_module(reader, copy.deepcopy(reader), (4, 3, 2, 2))


class OutputOf4(nn.Linear):
    def forward(self, x):
        return super().forward(x).reshape(4, 3)


def test_its_batch_may_not_be_of_one_size():
    wrong, right = (nn.Sequential(nn.Flatten(), kind(12, 3)) for kind in (OutputOf4, nn.Linear))
    with pytest.raises(AssertionError, match=r"shape \(5, 3, 2, 2\).*is a size fixed"):
        checks.assert_same_module(wrong, right, (4, 3, 2, 2))


def test_the_callers_random_numbers_are_left_alone():
    one, other = Transition(6, 3), Transition(6, 3)
    before = torch.get_rng_state()
    checks.assert_same_module(one, other, (4, 6, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_forgotten_return_is_named():
    class NoReturn(Transition):
        def forward(self, x):
            super().forward(x)

    with pytest.raises(AssertionError, match="is its `return` missing"):
        checks.assert_same_module(NoReturn(6, 3), Transition(6, 3), (4, 6, 8, 8))


def test_a_misspelt_forward_is_not_taken_for_no_attempt():
    class Misspelt(nn.Module):
        def foward(self, x):
            return x

    with pytest.raises(AssertionError, match="misspelt"), checks.exercise("1.1"):
        Misspelt()(torch.zeros(1))
