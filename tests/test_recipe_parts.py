"""The runs of the recipe's parts: each differs in its part alone, and their file goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from house_rules import ROOT
from torch import nn

from densenet_lib import data
from densenet_lib.checkpoints import recorded
from densenet_lib.training import RECIPES, Recipe
from tools import recipe_parts
from tools.recipe_parts import BlackBorder, own_deviation, variants

WRONG = (0.2, 0.21, 0.22)
TINY = """
from dataclasses import replace
import torch
from densenet_lib import data
from tools import recipe_parts

def pictures(seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (60, 3, 32, 32), dtype=torch.uint8, generator=generator)
    statistics = data.channel_statistics(images)
    return data.ImageSet(images, torch.arange(60) % 3, tuple("abc"), *statistics, "noise", "train")

recipe_parts.NETWORK = {**recipe_parts.NETWORK, "growth_rate": 2, "block_config": (1, 1)}
recipe_parts.RECIPE = replace(recipe_parts.RECIPE, batch_size=16, epochs=2)
recipe_parts.HELD_OUT, recipe_parts.SEEDS = 20, range(1)
"""


@pytest.fixture
def pictures(monkeypatch):
    """Make the tool's settings tiny, as TINY does; return its function for pictures of noise."""
    for name in ("NETWORK", "RECIPE", "HELD_OUT", "SEEDS"):
        monkeypatch.setattr(recipe_parts, name, getattr(recipe_parts, name))  # put back at the end
    names = {}
    exec(TINY, names)
    return names["pictures"]


def begun(part, pictures):
    """List what a run begins with, each thing by itself."""
    variant = variants(WRONG)[part]
    network, batches = variant.begin(3, pictures)
    convolutions = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    passes = [*batches, *batches]
    group = variant.recipe.optimizer(network).param_groups[0]
    rest = replace(variant.recipe, weight_decay=0, nesterov=False, augment=False)
    return {
        "decay": [group["weight_decay"]],
        "nesterov": [group["nesterov"]],
        "rest of the recipe": [rest],
        "convolutions": convolutions,
        "other weights": [p for p in network.parameters() if p.dim() != 4],
        "pictures": [images for images, _ in passes],
        "order": [labels for _, labels in passes],
        "judged pictures": [variant.normalised(pictures)[0][0]],
    }


@pytest.mark.parametrize(
    "part, differs",
    [
        ("whole recipe", set()),
        ("weight decay", {"decay"}),
        ("Nesterov", {"nesterov"}),
        ("initialisation", {"convolutions"}),
        ("border colour", {"pictures"}),
        ("statistics", {"pictures", "judged pictures"}),
        ("augmentation", {"pictures"}),
    ],
)
def test_a_variant_differs_in_its_part_alone(part, differs, pictures):
    whole, other = begun("whole recipe", pictures()), begun(part, pictures())
    found = set()
    for name in whole:
        for a, b in zip(whole[name], other[name], strict=True):
            if not (torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b):
                found.add(name)
    assert found == differs


def test_the_whole_recipe_is_the_papers_with_fewer_passes():
    paper = RECIPES["paper"]
    assert replace(variants(WRONG)["whole recipe"].recipe, epochs=paper.epochs) == paper
    rates = [paper.rate_at(step, 8) for step in range(8)]
    assert rates == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
    network, batches = variants(WRONG)["whole recipe"].begin(0, some_photographs())
    group = paper.optimizer(network).param_groups[0]
    assert (group["weight_decay"], group["nesterov"], group["momentum"]) == (1e-4, True, 0.9)
    assert len(group["params"]) == len(list(network.parameters()))
    assert batches.augment and batches.shuffle and batches.batch_size == 64


def test_weight_decay_and_nesterov_are_switched_off():
    network = nn.Linear(1, 1)
    groups = {n: v.recipe.optimizer(network).param_groups[0] for n, v in variants(WRONG).items()}
    assert groups["weight decay"]["weight_decay"] == 0 and groups["weight decay"]["nesterov"]
    assert not groups["Nesterov"]["nesterov"] and groups["Nesterov"]["momentum"] == 0.9


def some_photographs(value=None):
    """Return 100 pictures of noise that is nowhere black, or of one value."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(20, 256, (100, 3, 32, 32), dtype=torch.uint8, generator=generator)
    if value is not None:
        images = torch.full_like(images, value)
    statistics = (0.5, 0.4, 0.3), (0.25, 0.24, 0.23)
    return data.ImageSet(
        images, torch.arange(100) % 10, tuple("abcdefghij"), *statistics, "n", "train"
    )


@pytest.mark.parametrize("mode, axis", [("fan_out", 0), ("fan_in", 1)])
def test_the_weights_have_the_spread_that_is_said(mode, axis):
    part = {"fan_out": "whole recipe", "fan_in": "initialisation"}[mode]
    network, _ = variants(WRONG)[part].begin(0, some_photographs())
    checked = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 1000:
            fan = module.weight.shape[axis] * module.weight[0, 0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.1)
            checked += 1
    assert checked > 10


def test_black_borders_differ_from_the_others_in_the_border_alone():
    options = {"augment": True, "shuffle": True, "seed": 5}
    # White pictures tell where the border is: it is 0 there, and nothing else is.
    ways = [
        data.Batches(some_photographs(255), 64, **options),
        data.Batches(some_photographs(), 64, **options),
        BlackBorder(some_photographs(), 64, **options),
    ]
    black = torch.tensor([-0.5 / 0.25, -0.4 / 0.24, -0.3 / 0.23])
    for _ in range(2):  # passes
        for (white, _), (ours, labels), (theirs, same) in zip(*ways, strict=True):
            border = white == 0
            assert torch.equal(labels, same) and 0.1 < border.float().mean() < 0.3
            assert torch.equal(ours[~border], theirs[~border]) and not ours[border].any()
            where = border[:, 0]
            assert all(border[:, c].equal(where) for c in range(3))
            torch.testing.assert_close(theirs.movedim(1, -1)[where], black.expand(where.sum(), 3))
    assert [way.epoch for way in ways] == [2, 2, 2]


def test_without_a_shift_black_borders_change_nothing():
    plain, black = (kind(some_photographs(), 64) for kind in (data.Batches, BlackBorder))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(plain, black, strict=True))


def test_the_wrong_deviation_is_the_mean_of_the_pictures_own():
    """Pictures of one value each deviate from one another, and not in themselves."""
    flat = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert own_deviation(flat) == (0, 0, 0)
    assert data.channel_statistics(flat)[1] == (0.5, 0.5, 0.5)
    halves = torch.cat([flat[:1], flat[1:]], dim=2)  # one picture, half black and half white
    two = torch.cat([halves, torch.full_like(halves, 9)])
    assert own_deviation(two) == (0.25, 0.25, 0.25)


def test_wrong_statistics_stretch_all_pictures_alike():
    fit = some_photographs()
    (whole, _), (wrong, _) = (
        next(iter(variants(WRONG)[part].begin(0, fit)[1]))
        for part in ("whole recipe", "statistics")
    )
    factors = torch.tensor(fit.std) / torch.tensor(WRONG)
    torch.testing.assert_close(wrong, whole * factors.view(3, 1, 1))


def test_another_seed_is_another_network_in_another_order():
    whole = variants(WRONG)["whole recipe"]
    (network, batches), (other, others) = (whole.begin(seed, some_photographs()) for seed in (0, 1))
    assert not torch.equal(network[1].features.conv0.weight, other[1].features.conv0.weight)
    assert not torch.equal(next(iter(batches))[1], next(iter(others))[1])


def test_each_run_is_judged_with_the_deviation_that_it_learned_with(pictures, monkeypatch):
    """The held-out pictures first, then those it learned from: so they stand in the row."""
    fit, held_out = pictures(), pictures(seed=1)
    judged = []

    def evaluate(network, batches):
        judged.append(torch.cat([images for images, _ in batches]))
        return SimpleNamespace(accuracy=len(judged) / 10, loss=len(judged))

    monkeypatch.setattr(recipe_parts, "evaluate", evaluate)
    row = recipe_parts.measured(variants(WRONG)["statistics"], 0, fit, held_out)
    assert (row["accuracy"], row["loss"], row["training_accuracy"]) == (0.1, 1, 0.2)
    for images, image_set in zip(judged, (held_out, fit), strict=True):
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (image_set.mean, WRONG))
        torch.testing.assert_close(images, (image_set.images / 255 - mean) / std)


def rows(path):
    """Return the rows of a file without their seconds."""
    found = json.loads(path.read_text())["runs"]
    return [{key: row[key] for key in row if key != "seconds"} for row in found]


def test_killed_it_goes_on_to_the_same_rows(pictures, tmp_path, capsys):
    whole, cut = tmp_path / "whole.json", tmp_path / "cut.json"
    recipe_parts.measure(pictures(), WRONG, whole)
    assert [(row["part"], row["seed"]) for row in rows(whole)] == [(p, 0) for p in variants(WRONG)]
    code = f"{TINY}\nfrom pathlib import Path\n"
    code += f"recipe_parts.measure(pictures(), {WRONG}, Path({str(cut)!r}))"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    while not cut.exists() and time.monotonic() < limit:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 1 <= (before := len(rows(cut))) < len(rows(whole))
    capsys.readouterr()
    recipe_parts.measure(pictures(), WRONG, cut)
    assert len(capsys.readouterr().out.splitlines()) == len(rows(whole)) - before
    assert rows(cut) == rows(whole)


def test_a_file_of_other_pictures_or_settings_is_refused(pictures, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    recipe_parts.measure(pictures(), WRONG, path)
    before = path.read_bytes()
    recipe_parts.measure(pictures(), WRONG, path)  # its own: nothing is missing
    with pytest.raises(SystemExit, match='a.json are of other pictures: see its "data"'):
        recipe_parts.measure(pictures(seed=1), WRONG, path)
    with pytest.raises(SystemExit, match="of other pictures"):
        recipe_parts.measure(pictures(), (0.2, 0.2, 0.2), path)
    monkeypatch.setattr(recipe_parts, "RECIPE", replace(recipe_parts.RECIPE, epochs=3))
    with pytest.raises(SystemExit, match='a.json are by other settings: see its "settings"'):
        recipe_parts.measure(pictures(), WRONG, path)
    assert path.read_bytes() == before


def test_it_never_asks_for_test_pictures(pictures, tmp_path, monkeypatch):
    asked = []

    def load(source, split="train", limit=None):
        asked.append((source, split))
        return pictures()

    monkeypatch.setattr(recipe_parts.data, "load_images", load)
    path = tmp_path / "new.json"
    monkeypatch.setattr(sys, "argv", ["recipe_parts.py", "--data", "shapes", "--to", str(path)])
    recipe_parts.main()
    assert asked == [("shapes", "train")] * 2
    about = json.loads(path.read_text())
    assert about["settings"]["learn"] == 40 and about["settings"]["held_out"] == 20
    assert about["data"]["sha256"] == pictures().digest
    assert about["data"]["wrong_std"] == list(own_deviation(pictures().images))


def test_the_recorded_runs_are_those_of_today_and_all_there():
    found = recorded("recipe-parts")
    settings = found["settings"]
    assert settings["network"] == json.loads(json.dumps(recipe_parts.NETWORK))
    assert Recipe(**settings["recipe"]) == recipe_parts.RECIPE
    sizes = [settings[part] for part in ("learn", "held_out")]
    assert sizes == [recipe_parts.LEARN, recipe_parts.HELD_OUT]
    assert found["data"]["name"] == "CIFAR-10, JPEG copy" and len(found["data"]["sha256"]) == 64
    assert found["data"]["std"] == pytest.approx((0.2452, 0.2428, 0.2606), abs=1e-4)
    assert found["data"]["wrong_std"] == pytest.approx((0.2004, 0.1987, 0.2008), abs=1e-4)
    cases = [(part, seed) for seed in recipe_parts.SEEDS for part in variants(WRONG)]
    assert [(row["part"], row["seed"]) for row in found["runs"]] == cases
    for row in found["runs"]:
        assert all(0.1 < row[key] < 1 for key in ("accuracy", "training_accuracy"))
