"""Training against a plain loop written by hand, and evaluation against direct formulas."""

import contextlib
import copy
import math
import shutil
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from densenet_lib import data
from densenet_lib.densenet import DenseLayer, DenseNet
from densenet_lib.efficient import make_efficient
from densenet_lib.training import RECIPES, Evaluation, Recipe, evaluate, train


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(20, 3, 8, 8, generator=generator)
    labels = torch.randint(0, 10, (20,), generator=generator)
    return list(zip(images.split(8), labels.split(8), strict=True))


def small_network():
    torch.manual_seed(0)
    return DenseNet(4, (1, 1), 8)


def test_the_default_recipe_is_the_origins_loop(batches):
    by_hand = small_network()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    losses = []
    for _ in range(2):
        running_loss = 0.0
        for images, labels in batches:
            optimizer.zero_grad()
            loss = nn.CrossEntropyLoss()(by_hand(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(labels)
        losses.append(running_loss / 20)

    model = small_network()
    records = list(train(model, batches, epochs=2))
    assert [record.loss for record in records] == pytest.approx(losses, rel=1e-5)
    assert [record.step for record in records] == [3, 6]
    assert [record.images for record in records] == [20, 40]
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), by_hand.state_dict().values(), strict=True)
    )


def test_records_between_epochs_cover_every_image_once(batches):
    pieces = list(train(small_network(), batches, epochs=2, every=2))
    assert [record.step for record in pieces] == [2, 3, 4, 6]
    assert [record.images for record in pieces] == [16, 20, 28, 40]
    whole = list(train(small_network(), batches, epochs=2))
    mean = (16 * pieces[0].loss + 4 * pieces[1].loss) / 20
    assert mean == pytest.approx(whole[0].loss, rel=1e-5)
    assert pieces[-1].step == whole[-1].step == 6


@pytest.mark.parametrize("steps", [4, 10, 97])
def test_one_cycle_rises_then_falls_to_zero(steps):
    recipe = Recipe(learning_rate=0.2, schedule="one-cycle")
    rates = [recipe.rate_at(step, steps) for step in range(steps)]
    peak = rates.index(max(rates))
    assert 0 < min(rates) and max(rates) <= 0.2
    assert max(rates) > 0.2 * (1 - 4 / steps)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.2 / (0.75 * steps))


def test_constant_and_unknown_schedules():
    assert {Recipe().rate_at(step, 5) for step in range(5)} == {0.1}
    with pytest.raises(ValueError, match="choose one of constant, steps, one-cycle"):
        Recipe(schedule="cosine").rate_at(0, 5)


def test_a_loss_that_is_no_number_stops_with_a_sentence(batches):
    with pytest.raises(FloatingPointError, match="at step .*learning rate .*try a tenth"):
        list(train(small_network(), batches, epochs=3, recipe=Recipe(learning_rate=1e20)))


def test_evaluate_by_formula_and_puts_the_mode_back(batches):
    model = small_network().train()
    result = evaluate(model, batches)
    assert model.training
    model.eval()
    logits = torch.cat([model(images) for images, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    by_hand = -logits.double().log_softmax(1)[torch.arange(20), labels].mean().item()
    assert result.loss == pytest.approx(by_hand, rel=1e-5)
    assert result.accuracy == (result.predictions == labels).sum().item() / 20
    torch.testing.assert_close(result.logits, logits.detach())
    assert not result.logits.requires_grad  # else they would keep the graphs of all batches


def one_rate(t, steps):
    return 0.1


def three_rates(t, steps):
    return 0.1 if t < steps / 2 else 0.01 if t < 3 * steps / 4 else 0.001


def up_and_down(t, steps):
    return 0.16 * min(4 * (t + 1) / steps, 4 * (steps - t) / (3 * steps), 1)


@pytest.mark.parametrize(
    ("name", "images", "epochs", "steps", "trace"),
    [
        ("origin", 50_000, 1, 782, one_rate),
        ("paper", 5_000, 300, 23_700, three_rates),
        ("fast", 50_000, 4, 3_128, up_and_down),
    ],
)
def test_step_count_and_rates_of_the_recipes(name, images, epochs, steps, trace):
    recipe = RECIPES[name]
    assert math.ceil(images / recipe.batch_size) * epochs == steps
    rates = [recipe.rate_at(step, steps) for step in range(steps)]
    assert rates == pytest.approx([trace(step, steps) for step in range(steps)], rel=1e-12)


def test_the_papers_recipe_to_the_letter():
    """Section 4.2; the drops at 50 % and 75 % fall on the first step of epochs 151 and 226."""
    recipe, steps = RECIPES["paper"], 79 * 300
    group = recipe.optimizer(nn.Linear(2, 2)).param_groups[0]
    assert group["nesterov"] and (group["momentum"], group["dampening"]) == (0.9, 0)
    assert group["weight_decay"] == 1e-4 and len(group["params"]) == 2  # the bias decays too
    assert (recipe.batch_size, recipe.epochs, recipe.augment, recipe.plain_epochs) == (
        64,
        300,
        True,
        0,
    )
    assert recipe.label_smoothing == 0
    rates = [recipe.rate_at(step, steps) for step in range(steps)]
    drops = [step for step in range(1, steps) if rates[step] != rates[step - 1]]
    assert drops == [150 * 79, 225 * 79]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"schedule": "cosine"}, "schedule is 'cosine': choose one of constant, steps, one-cycle"),
        ({"learning_rate": -1}, "learning_rate is -1: it must be a plain number of at least 0$"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"momentum": 1.0}, "momentum is 1.0: it must be a plain number .* 0 and below 1$"),
        ({"momentum": torch.tensor(0.9).numpy()[()]}, "momentum is .*: it must be a plain number"),
        ({"batch_size": 0}, "batch_size is 0: it must be a plain whole number of at least 1$"),
        ({"epochs": 2.0}, "epochs is 2.0: it must be a plain whole number of at least 1$"),
        ({"augment": "no"}, "augment is 'no': it must be true or false"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**wrong)


def test_every_parameter_decays_and_moves_as_torch_says(batches):
    """The names of a Recipe reach the optimiser: three steps against SGD written out."""
    recipe = Recipe(0.05, nesterov=True, momentum=0.8, weight_decay=0.01, label_smoothing=0.1)
    model, mine = small_network().double(), small_network().double()
    doubled = [(images.double(), labels) for images, labels in batches]
    list(train(DoubleLogits(model), doubled, epochs=1, recipe=recipe))
    speed = [torch.zeros_like(p) for p in mine.parameters()]
    for images, labels in doubled:
        chances = DoubleLogits(mine)(images).log_softmax(1)
        right = -chances[torch.arange(len(labels)), labels].mean()
        loss = 0.9 * right - 0.1 * chances.mean()
        gradients = torch.autograd.grad(loss, mine.parameters())
        with torch.no_grad():
            for p, g, v in zip(mine.parameters(), gradients, speed, strict=True):
                g = g + 0.01 * p
                v.mul_(0.8).add_(g)
                p -= 0.05 * (g + 0.8 * v)
    for a, b in zip(model.parameters(), mine.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


class DoubleLogits(nn.Module):
    """Gives float32 logits, as train makes them, of a network in float64."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images).float()


def test_records_carry_validation_and_speed(batches):
    judges = [(torch.randn(6, 3, 8, 8), torch.arange(6))]
    model = small_network()
    for record in train(model, batches, epochs=2, every=1, validation=judges):
        ends = record.step % 3 == 0
        assert (record.validation_accuracy is not None) == ends
        if ends:
            now = evaluate(model, judges)
            assert (record.validation_loss, record.validation_accuracy) == (now.loss, now.accuracy)
        assert record.count == (4 if ends else 8) and record.images_per_second > 0


def test_going_on_after_a_record_is_as_if_never_stopped(batches):
    recipe = Recipe(0.05, schedule="one-cycle")
    whole = small_network()
    all_of_it = list(train(whole, batches, epochs=3, recipe=recipe, every=1))
    part = small_network()
    optimizer, until = recipe.optimizer(part), 5  # in the middle of the second epoch
    steps = train(part, batches, epochs=3, recipe=recipe, every=1, optimizer=optimizer)
    *_, last = (next(steps) for _ in range(until))
    rest = train(part, batches, epochs=3, recipe=recipe, every=1, optimizer=optimizer, after=last)
    rest = list(rest)
    assert [r.step for r in rest] == [6, 7, 8, 9]
    assert [r.loss for r in rest] == [r.loss for r in all_of_it[until:]]
    assert [r.images for r in rest] == [r.images for r in all_of_it[until:]]
    for a, b in zip(whole.state_dict().values(), part.state_dict().values(), strict=True):
        assert torch.equal(a, b)


class Slow(list):
    """Batches that take a second each, by a clock that stands still otherwise."""

    now = 7.0

    def __iter__(self):
        for batch in super().__iter__():
            self.now += 1
            yield batch


@pytest.fixture
def slow(batches, monkeypatch):
    slow = Slow(batches)
    monkeypatch.setattr(time, "perf_counter", lambda: slow.now)
    return slow


def test_the_clock_goes_on_after_a_record(slow):
    model, recipe = small_network(), Recipe(0.05)
    optimizer = recipe.optimizer(model)
    first = next(train(model, slow, epochs=2, recipe=recipe, optimizer=optimizer))
    assert (first.seconds, first.images_per_second) == (3, 20 / 3)
    first = replace(first, seconds=1000)
    (last,) = train(model, slow, epochs=2, recipe=recipe, optimizer=optimizer, after=first)
    assert (last.seconds, last.images_per_second) == (1003, 20 / 3)


def test_what_the_reader_of_a_record_does_is_not_in_the_speed_of_the_next(slow):
    speeds = []
    for record in train(small_network(), slow, epochs=2, every=1):
        speeds.append(record.images_per_second)
        slow.now += 1000
    assert speeds == [8, 8, 4] * 2
    assert record.seconds == 5006


def test_all_groups_step_at_the_rate_of_the_recipe(batches):
    whole, parts = small_network(), small_network()
    first, *others = parts.parameters()
    groups = [{"params": [first]}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=7.0, momentum=0.9, weight_decay=1e-4)
    recipe = Recipe(0.05, schedule="one-cycle")
    list(train(whole, batches, epochs=2, recipe=recipe))
    list(train(parts, batches, epochs=2, recipe=recipe, optimizer=optimizer))
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(p, q)


def test_evaluation_counts_by_hand():
    logits = torch.tensor([[2.0, 0, 0], [0, 3, 0], [0, 1, 0], [0, 0, 1], [5, 0, 0], [0, 1, 0]])
    found = Evaluation(logits, torch.tensor([0, 1, 0, 2, 2, 1]))
    assert found.predictions.tolist() == [0, 1, 1, 2, 0, 1]
    assert found.confusion.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert found.per_class.tolist() == [0.5, 1.0, 0.5]
    assert found.accuracy == pytest.approx(4 / 6)
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(6))
    assert found.probabilities[4, 0].item() == pytest.approx(1 / (1 + 2 * math.exp(-5)))
    absent = Evaluation(logits, torch.tensor([0, 1, 0, 1, 0, 1]))
    assert math.isnan(absent.per_class[2])
    many = Evaluation(torch.eye(100), torch.arange(100, dtype=torch.uint8))  # as files keep labels
    assert many.confusion.equal(torch.eye(100, dtype=torch.long))


def trained(prepare=lambda model: model, device="cpu", **options):
    """Train a small network for six steps; return its weights as one vector."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(48, 3, 16, 16, generator=generator).to(device)
    labels = torch.randint(0, 10, (48,), generator=generator).to(device)
    batches = list(zip(images.split(16), labels.split(16), strict=True))
    torch.manual_seed(0)
    model = DenseNet(8, (1, 2), 8).to(device)
    list(train(prepare(model), batches, epochs=2, recipe=Recipe(0.02), **options))
    return torch.cat([p.detach().float().flatten().cpu() for p in model.parameters()])


class Uneven(list):
    """Batches of a process with less than its share."""

    weight = 0.25


def test_the_loss_of_an_uneven_share_counts_by_its_weight(batches):
    ours, plain = small_network(), small_network()
    list(train(ours, Uneven(batches[:1]), epochs=1, recipe=Recipe(0.1, weight_decay=0.0)))
    list(train(plain, batches[:1], epochs=1, recipe=Recipe(0.025, weight_decay=0.0)))
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_whoever_reads_a_record_may_leave_the_network_in_evaluation_mode(batches):
    ours, plain = small_network(), small_network()
    for _ in train(ours, batches, epochs=2, every=1):
        ours.eval()
    list(train(plain, batches, epochs=2, every=1))
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p, q)


def relative(one, other):
    return ((one - other).norm() / other.norm()).item()


def test_channels_last_does_the_same():
    """Only the order of additions differs: six steps agree to 1 in 100,000."""
    fast = trained(lambda model: model.to(memory_format=torch.channels_last))
    assert relative(fast, trained()) < 1e-5


def test_bfloat16_does_nearly_the_same():
    """Eight bits of mantissa: six steps agree to 1 in 50, and are not the same numbers."""
    assert 1e-6 < relative(trained(amp=True), trained()) < 0.02


def test_with_bfloat16_the_loss_still_has_all_its_digits(batches):
    network, losses = small_network(), []
    for images, labels in batches:
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        losses.append(nn.functional.cross_entropy(logits.float(), labels).item() * len(labels))
    (record,) = train(network, batches, epochs=1, recipe=Recipe(0.0), amp=True)  # takes no step
    assert record.loss == pytest.approx(sum(losses) / 20, rel=1e-5)


@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize("prepare", [lambda model: model, make_efficient])
def test_only_a_record_asks_for_values(prepare, muon, monkeypatch):
    """A GPU would wait whenever a step asks for one. The meta device has none, and fails."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # neither of the two
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # knows meta
    some = data.load_images("shapes", limit=48)
    batches = data.Batches(some, 16, augment=True, cutout=8, shuffle=True, device="meta")
    model = prepare(DenseNet(4, (1, 1), 8, drop_rate=0.1).to("meta"))
    recipe, steps = Recipe(muon=muon, nesterov=True, label_smoothing=0.1), []
    optimizer = recipe.optimizer(model)
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    with pytest.raises(RuntimeError, match="meta tensors"):
        list(train(model, batches, epochs=2, recipe=recipe, optimizer=optimizer))
    assert len(steps) == len(batches)  # until the first record


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++") and not shutil.which("g++"), reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of torch's own making
def test_compiled_does_the_same():
    """The same operations, fused: a step agrees to 1 in 100,000. (Compiling takes long.)"""
    torch.manual_seed(0)
    network = nn.Sequential(DenseLayer(8, 4), nn.Flatten(), nn.Linear(4 * 64, 10))
    twin, images, labels = copy.deepcopy(network), torch.randn(6, 8, 8, 8), torch.arange(6)
    for model in (network, torch.compile(twin)):
        list(train(model, [(images, labels)] * 2, epochs=1, recipe=Recipe(0.02)))
    for a, b in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_does_the_same():
    assert relative(trained(device="cuda"), trained()) < 1e-3
    assert relative(trained(device="cuda", amp=True), trained()) < 0.02


def test_a_fresh_network_knows_nothing(batches):
    images, labels = torch.randn(200, 3, 8, 8), torch.arange(200) % 10
    result = evaluate(small_network(), [(images, labels)])
    assert result.loss == pytest.approx(math.log(10), abs=0.5)


def test_a_mirror_image_counts_as_much_as_its_picture():
    network, images = small_network(), torch.randn(6, 3, 8, 8)
    labels = torch.arange(6) % 10
    plain = evaluate(network, [(images, labels)])
    turned = evaluate(network, [(torch.tensor(images.numpy()[..., ::-1].copy()), labels)])
    both = evaluate(network, [(images[:4], labels[:4]), (images[4:], labels[4:])], mirror=True)
    torch.testing.assert_close(both.logits, (plain.logits + turned.logits) / 2)
    assert not torch.allclose(plain.logits, turned.logits, atol=1e-3)
    again = evaluate(network, [(images.flip(-1), labels)], mirror=True)
    torch.testing.assert_close(again.logits, both.logits)


def frozen_network():
    """A network in training mode with one frozen norm, and that norm."""
    torch.manual_seed(0)
    network = DenseNet(4, (1, 1), 8)
    norm = network.features.denseblock1.denselayer1.norm1.eval()
    return network, norm


def test_frozen_norms_stay_frozen_in_training():
    network, norm = frozen_network()
    before = norm.running_mean.clone()
    batches = [(torch.randn(4, 3, 8, 8) + 1, torch.arange(4))] * 3
    for _ in train(network, batches, epochs=2, validation=batches):
        evaluate(network, batches)
    assert not norm.training and torch.equal(norm.running_mean, before)
    assert network.training and network.features.norm5.training


def test_a_model_in_evaluation_mode_is_trained_all_the_same():
    network = DenseNet(4, (1, 1), 8).eval()
    list(train(network, [(torch.randn(4, 3, 8, 8), torch.arange(4))], epochs=1))
    assert network.features.norm5.num_batches_tracked == 1


def test_evaluate_puts_each_mode_back_even_after_an_error():
    network, norm = frozen_network()
    modes = [part.training for part in network.modules()]
    evaluate(network, [(torch.randn(4, 3, 8, 8), torch.arange(4))])
    assert [part.training for part in network.modules()] == modes
    with pytest.raises(ValueError):
        evaluate(network, [(torch.randn(4, 1, 8, 8), torch.arange(4))])
    assert [part.training for part in network.modules()] == modes


def test_no_batches_are_refused():
    with pytest.raises(ValueError, match="no batches to train on"):
        next(train(DenseNet(4, (1, 1), 8), [], epochs=1))
    with pytest.raises(ValueError, match="no batches to evaluate on"):
        evaluate(DenseNet(4, (1, 1), 8), [])


def test_cutout_wants_augmentation():
    with pytest.raises(ValueError, match="cutout is 8, but only augmented"):
        Recipe(cutout=8)
    assert Recipe(cutout=8, augment=True).cutout == 8


def test_nesterov_wants_momentum():
    with pytest.raises(ValueError, match="nesterov looks ahead along the momentum, which is 0"):
        Recipe(nesterov=True, momentum=0.0)
