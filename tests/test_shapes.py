"""The embedded shapes: the same pixels everywhere, fair, and neither too easy nor leaking."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from densenet_lib.data import shapes

ROOT = Path(__file__).resolve().parents[1]
DIGESTS = {  # sha256 of the pixels, then the labels; they change only when the dataset is changed
    "train": "9ea0d6366213332773e4716add34ac0ed12f99eb8cb1d24ba3bf60db6a162b6a",
    "test": "53598f46db560e114414106466bb9260774be4815b2ec733d223da61ba103526",
}
DIGEST_OF_TEST = """
import hashlib
from densenet_lib.data import shapes
images, labels = shapes.draw("test")
print(hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def drawn():
    return SimpleNamespace(**{split: shapes.draw(split) for split in shapes.COUNTS})


def digest(images, labels):
    return hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()


def pictures(images):
    return {image.tobytes() for image in images}


def test_sizes_types_and_classes(drawn):
    assert len(shapes.CLASSES) == len(set(shapes.CLASSES)) == 10
    for (images, labels), count in ((drawn.train, 10_000), (drawn.test, 2_000)):
        assert images.shape == (count, 3, 32, 32) and images.dtype == np.uint8
        assert images.flags.c_contiguous and images.flags.writeable
        assert labels.shape == (count,) and labels.dtype == np.int64
        assert np.bincount(labels).tolist() == [count // 10] * 10
        assert len(set(labels[:100].tolist())) == 10, "the classes come in random order"


@pytest.mark.parametrize("split", shapes.COUNTS)
def test_the_pixels_are_the_same_on_every_machine(drawn, split):
    assert digest(*getattr(drawn, split)) == DIGESTS[split]


def test_the_pixels_do_not_depend_on_what_the_processor_can_do():
    """Without the processor's vector instructions numpy takes other paths to the same numbers."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found")
    if not found:
        pytest.skip("this numpy has nothing to switch off on this processor")
    plain = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(found)}
    command = [sys.executable, "-c", DIGEST_OF_TEST]
    run = subprocess.run(command, env=plain, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == DIGESTS["test"], run.stderr


def test_no_picture_comes_twice(drawn):
    train, test = pictures(drawn.train[0]), pictures(drawn.test[0])
    assert len(train) == 10_000 and len(test) == 2_000
    assert not train & test
    for split in shapes.COUNTS:
        assert not (train | test) & pictures(shapes.draw(split, seed=1)[0])


# What tells the classes apart


def test_colour_tells_nothing(drawn):
    (train, labels), (test, truth) = drawn.train, drawn.test
    accuracy = softmax_regression(colours(train), labels, colours(test), truth)
    assert 0.05 < accuracy < 0.16  # chance is 0.10


def test_colour_that_tells_would_be_noticed(drawn):
    """The classifier above must be able to find a leak: here the classes differ by 5 of 255."""
    (train, labels), (test, truth) = drawn.train, drawn.test
    train, test = train.astype(np.int64), test.astype(np.int64)
    train[:, 0] += 5 * labels[:, None, None]
    test[:, 0] += 5 * truth[:, None, None]
    assert softmax_regression(colours(train), labels, colours(test), truth) > 0.2


def test_a_linear_model_stays_under_thirty_percent(drawn):
    (train, labels), (test, truth) = drawn.train, drawn.test
    pixels = train.reshape(len(train), -1), test.reshape(len(test), -1)
    accuracy = softmax_regression(pixels[0], labels, pixels[1], truth, decay=0.1, steps=15)
    assert 0.12 < accuracy < 0.30


def colours(images):
    """Return mean, deviation, minimum and maximum of each channel, and all their products."""
    flat = torch.as_tensor(images).flatten(2).float()
    basic = torch.cat([flat.mean(2), flat.std(2), flat.amin(2), flat.amax(2)], dim=1)
    basic = (basic - basic.mean(0)) / basic.std(0)
    products = (basic[:, :, None] * basic[:, None, :]).flatten(1)
    return torch.cat([basic, products], dim=1)


def softmax_regression(inputs, labels, test_inputs, truth, decay=1e-3, steps=20):
    """Fit a linear classifier to the training split; return its share of right test answers."""
    inputs, test_inputs = (torch.as_tensor(x).float() for x in (inputs, test_inputs))
    labels, truth = torch.from_numpy(labels), torch.from_numpy(truth)
    mean, deviation = inputs.mean(0), inputs.std(0)
    inputs, test_inputs = (inputs - mean) / deviation, (test_inputs - mean) / deviation
    weight = torch.zeros(inputs.shape[1], 10, requires_grad=True)
    bias = torch.zeros(10, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def loss():
        solver.zero_grad()
        value = torch.nn.functional.cross_entropy(inputs @ weight + bias, labels)
        value = value + decay * weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return ((test_inputs @ weight + bias).argmax(1) == truth).float().mean().item()


def white_on_black(scenes):
    """Switch off all that is not the shape."""
    count = len(scenes["area"])
    return scenes | {
        "ground": np.zeros((count, 3), np.float32),
        "paint": np.full((count, 3), 255, np.float32),
        "light": 0 * scenes["light"],
        "stripes_depth": 0 * scenes["stripes_depth"],
        "speck_radius": 0 * scenes["speck_radius"] - 1,
        "grain": np.full_like(scenes["grain"], 0x78),  # 7 + 8 = 15: no grain
    }


@pytest.mark.parametrize("split", shapes.COUNTS)
def test_masks_leave_the_pictures_as_they_are(split):
    images, labels, masks = shapes.draw(split, masks=True)
    assert digest(images, labels) == DIGESTS[split]
    assert masks.shape == (len(labels), 32, 32) and masks.dtype == bool


def test_a_mask_is_where_its_shape_is_painted(monkeypatch):
    """The same pictures again, with everything but the shape painted black."""
    _, _, masks = shapes.draw("test", seed=3, masks=True)
    imagine = shapes._imagine
    monkeypatch.setattr(shapes, "_imagine", lambda *args: white_on_black(imagine(*args)))
    white, _ = shapes.draw("test", seed=3)
    assert (masks == (white[:, 0] >= 127.5)).all()
    assert masks[0].any() and not (masks == np.roll(masks, 1, axis=0)).all()


def test_every_class_covers_the_same_area_and_stays_in_the_picture():
    """So size and brightness tell nothing. White shapes on black, all else switched off."""
    scene = SimpleNamespace(**white_on_black(shapes._imagine(np.random.RandomState(0), 50)))
    for name, outline in shapes.OUTLINES.items():
        white = shapes._paint(shapes._place(*outline, scene), scene)[:, 0] / 255
        assert white.sum((1, 2)) == pytest.approx(scene.area[:, 0], rel=0.06), name
        assert white.sum((1, 2)).mean() == pytest.approx(scene.area.mean(), rel=0.02), name
        edge = np.concatenate([white[:, 0], white[:, -1], white[:, :, 0], white[:, :, -1]])
        assert edge.max() < 0.2, name  # a pixel's width from the frame


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("circle", [(0, 0), (0.7, 0.7)], [(0.72, 0.72)]),
        ("ring", [(0.75, 0), (0, -0.95)], [(0, 0), (0.45, 0), (0, 1.05)]),
        ("moon", [(-0.9, 0), (0, 0.8), (0, -0.8)], [(0, 0), (0.9, 0)]),
        ("heart", [(0, -0.85), (0.6, 0.5), (-0.6, 0.5)], [(0, 0.7), (0.5, -0.6)]),
        ("star", [(0, 0.97), (0.92, 0.3), (0.57, -0.79)], [(0, -0.55), (0.4, 0.5), (0.9, -0.3)]),
        ("flower", [(0, 0.97), (0.57, 0.19), (0.35, -0.49)], [(0, 0), (0, -0.8), (0.53, 0.73)]),
        ("triangle", [(0, 0.97), (0.8, -0.48), (-0.8, -0.48)], [(0, -0.55), (0.5, 0.5)]),
        ("square", [(0.69, 0.69), (-0.69, 0.69)], [(0, 0.75), (-0.75, 0)]),
        ("cross", [(0.9, 0), (0, -0.9), (0.3, 0.3)], [(0.4, 0.4), (0, 1)]),
        ("arrow", [(0.95, 0), (0.15, 0.8), (-0.9, -0.2)], [(-0.5, 0.5), (0.8, 0.5)]),
    ],
)
def test_the_shapes_have_their_form(name, inside, outside):
    _, outline = shapes.OUTLINES[name]
    assert all(outline(*np.float32(point)) < 0 for point in inside)
    assert all(outline(*np.float32(point)) > 0 for point in outside)


@pytest.mark.parametrize(
    ("split", "seed", "words"), [("val", 0, "'train' and 'test'"), ("test", -1, "whole number")]
)
def test_a_split_or_seed_that_is_not_there(split, seed, words):
    with pytest.raises(ValueError, match=words):
        shapes.draw(split, seed)
