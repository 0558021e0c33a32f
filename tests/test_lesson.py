"""The line that opens a notebook: what it prints, what it returns, what it refuses."""

import pytest
import torch
from PIL import Image

from densenet_lib import data, lesson


def test_begin_says_what_is_in_use_and_seeds(capsys):
    opened = lesson.begin("quick", "shapes", "cpu", 3)
    first = torch.rand(2)
    assert capsys.readouterr().out == (
        "profile  quick: seconds on a laptop's CPU\ndata     shapes\ndevice   cpu\nseed     3\n"
    )
    assert opened.device == torch.device("cpu") and opened.seed == 3
    torch.manual_seed(3)
    assert torch.equal(first, torch.rand(2))


def test_begin_says_how_to_get_cifar_when_it_falls_back(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DENSENET_HOME", str(tmp_path))
    assert lesson.begin("quick", "auto", "cpu", 0).source == "shapes"
    assert lesson.begin("quick", "", "cpu", 0).source == "shapes"  # DENSENET_DATA= is no folder
    assert capsys.readouterr().out.count("CIFAR-10 is not on disk; `make data` fetches it") == 2


@pytest.mark.parametrize(
    ("profile", "train", "test", "epochs"), [("quick", 5_000, 1_000, 1), ("full", None, None, 10)]
)
def test_pictures_are_loaded_when_asked_and_as_many_as_the_profile_has(
    monkeypatch, profile, train, test, epochs
):
    asked = []

    def load_images(source, split, limit):
        asked.append((source, split, limit))
        return object()

    opened = lesson.begin(profile, "shapes", "cpu", 0)
    monkeypatch.setattr(data, "load_images", load_images)
    assert not asked and opened.profile.epochs == epochs
    assert opened.train is opened.train and opened.test is not opened.train
    assert asked == [("shapes", "train", train), ("shapes", "test", test)]


def test_a_picture_is_the_first_test_picture_or_a_file_of_the_reader(tmp_path):
    opened = lesson.begin("quick", "shapes", "cpu", 0)
    assert torch.equal(opened.picture(), opened.test.images[0])
    Image.new("RGB", (50, 70), (250, 10, 20)).save(tmp_path / "mine.png")
    mine = opened.picture(tmp_path / "mine.png")
    assert mine.shape == (3, 32, 32) and mine.dtype == torch.uint8
    assert mine.flatten(1).unique(dim=1).flatten().tolist() == [250, 10, 20]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fast", "shapes", "cpu", 0), "PROFILE is 'fast': choose one of quick, full"),
        (("quick", "shapes", "gpu", 0), "The device is 'gpu': choose one of auto, cpu, cuda, mps"),
        (("quick", "shapes", "cpu", -1), "SEED is -1: choose a whole number"),
        (("quick", "shapes", "cpu", 2**32), "SEED is 4294967296: choose a whole number from 0 to"),
        (("quick", 5, "cpu", 0), "The data is 5, no text: choose auto"),
        (("quick", "shapes", "cpu", "0"), "SEED is '0': choose a whole number"),
        (("quick", "shapes", "cpu", 0.0), "SEED is 0.0: choose a whole number"),
        (("quick", "cifar11", "cpu", 0), "cifar10"),
    ],
)
def test_wrong_values_raise_with_the_right_ones(arguments, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        lesson.begin(*arguments)


@pytest.mark.parametrize(("there", "name"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_where_there_is_one(monkeypatch, there, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert data.choose_device("auto") == torch.device(name)


def test_float32_on_a_gpu_is_float32(monkeypatch):
    monkeypatch.setattr(data, "choose_device", torch.device)
    with torch.backends.cudnn.flags(allow_tf32=True):
        lesson.begin("quick", "shapes", "cpu", 0)
        assert torch.backends.cudnn.allow_tf32
        lesson.begin("quick", "shapes", "cuda", 0)
        assert not torch.backends.cudnn.allow_tf32


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    with pytest.raises(ValueError, match="PyTorch finds none"):
        lesson.begin("quick", "shapes", "cuda", 0)
