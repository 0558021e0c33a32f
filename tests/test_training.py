"""Training against a plain loop written by hand, and evaluation against direct formulas."""

import math

import pytest
import torch
from torch import nn

from densenet_lib.densenet import DenseNet
from densenet_lib.training import Recipe, evaluate, train


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
    with pytest.raises(ValueError, match="'constant' or 'one-cycle'"):
        Recipe(schedule="cosine").rate_at(0, 5)


def test_a_loss_that_is_no_number_stops_with_a_sentence(batches):
    with pytest.raises(ValueError, match="at step .*learning rate .*try a tenth"):
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


def test_a_fresh_network_knows_nothing(batches):
    images, labels = torch.randn(200, 3, 8, 8), torch.arange(200) % 10
    result = evaluate(small_network(), [(images, labels)])
    assert result.loss == pytest.approx(math.log(10), abs=0.5)
