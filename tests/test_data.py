import os
import re
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from torchvision import datasets, transforms

from densenet_lib import data
from densenet_lib.data import (
    Batches,
    ImageSet,
    channel_statistics,
    folders,
    load_images,
    sources,
    split_validation,
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DENSENET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def fill(folder, count, rng):
    """Write `count` random pictures, with a file in between that is none."""
    folder.mkdir(parents=True)
    (folder / "Thumbs.db").write_text("not a picture")
    (folder / ".DS_Store").write_text("not a picture")
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.png")


@pytest.fixture
def photos(tmp_path, rng):
    for split, counts in {"train": (7, 3, 5), "test": (2, 1, 2)}.items():
        for name, count in zip(("cat", "ant", "bee"), counts, strict=True):
            fill(tmp_path / "photos" / split / name, count, rng)
    return tmp_path / "photos"


@pytest.fixture
def flat(tmp_path, rng):
    for name, count in {"cat": 20, "ant": 10, "bee": 2}.items():
        fill(tmp_path / "flat" / name, count, rng)
    return tmp_path / "flat"


def image_set(n=50, classes=5, seed=0, split="train"):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(n) % classes
    names = tuple("abcdefghij"[:classes])
    return ImageSet(images, labels, names, *channel_statistics(images), "random", split)


def pictures(images):
    return {image.numpy().tobytes() for image in images}


def one_sentence(error):
    """Give the message, having checked that it is one line that ends as a sentence does."""
    message = str(error.value)
    assert "\n" not in message and message.endswith(".")
    return message


# Folders of pictures


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_folder_reads_as_torchvision_reads_it(photos, split):
    ours, theirs = load_images(photos, split), datasets.ImageFolder(photos / split)
    assert list(ours.classes) == theirs.classes == ["ant", "bee", "cat"]
    assert ours.labels.tolist() == theirs.targets
    expected = torch.stack([TF.pil_to_tensor(image) for image, _ in theirs])
    assert ours.images.dtype == torch.uint8 and torch.equal(ours.images, expected)
    assert (ours.name, ours.split, len(ours)) == ("photos", split, len(theirs))


def test_statistics_are_of_the_training_split(photos):
    train, test = load_images(photos, "train"), load_images(str(photos), "test", limit=3)
    pixels = train.images.double() / 255
    assert train.mean == test.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-12)
    deviation = pixels.std((0, 2, 3), correction=0).tolist()
    assert train.std == test.std == pytest.approx(deviation, abs=1e-12)


def test_statistics_are_exact_and_not_the_mean_of_deviations():
    images = image_set(200).images
    images[:100] //= 3  # dark pictures among light ones
    mean, std = channel_statistics(images)
    pixels = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-13)
    assert (np.array(std) > 1.2 * pixels.std((2, 3)).mean(0)).all()


def test_a_constant_channel_can_still_be_normalised():
    assert channel_statistics(torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)) == (
        (1.0, 1.0, 1.0),
        (1 / 255, 1 / 255, 1 / 255),
    )


def test_a_folder_without_splits_is_split_by_class(flat):
    train, test = load_images(flat, "train"), load_images(flat, "test")
    assert test.labels.bincount().tolist() == [2, 1, 3]  # ant, bee, cat: a fifth, at least one
    assert train.labels.bincount().tolist() == [8, 1, 17]
    assert len(pictures(train.images) | pictures(test.images)) == 32
    assert pictures(load_images(flat, "test").images) == pictures(test.images)
    assert pictures(load_images(flat, "test", seed=1).images) != pictures(test.images)
    other = load_images(flat, "train", seed=1), load_images(flat, "test", seed=1)
    assert len(pictures(other[0].images) | pictures(other[1].images)) == 32


def test_many_small_classes_each_get_a_test_picture(tmp_path, rng):
    for i in range(6):
        fill(tmp_path / "many" / str(i), 2, rng)
    assert load_images(tmp_path / "many", "test").labels.tolist() == list(range(6))
    assert load_images(tmp_path / "many", "train").labels.tolist() == list(range(6))


def test_limit_takes_classes_evenly_and_the_same_for_a_seed(flat):
    whole, few = load_images(flat), load_images(flat, limit=9)
    assert few.labels.bincount().tolist() == [4, 1, 4]  # one bee is all there is in train
    assert (few.mean, few.std) == (whole.mean, whole.std)
    assert pictures(few.images) < pictures(whole.images)
    assert torch.equal(load_images(flat, limit=9).images, few.images)
    assert pictures(few.images) < pictures(load_images(flat, limit=12).images)
    assert len(load_images(flat, limit=1000)) == len(whole) == 26


def test_limit_depends_on_the_seed(photos):
    few = [pictures(load_images(photos, limit=6, seed=seed).images) for seed in range(3)]
    assert few[0] != few[1] != few[2] != few[0]


@pytest.mark.parametrize("limit", [2, 0, -1])
def test_limit_below_one_a_class(photos, limit):
    with pytest.raises(ValueError, match=f"limit={limit} .* photos: ask for at least 3") as error:
        load_images(photos, limit=limit)
    one_sentence(error)


# Pictures of other sizes and kinds


def test_a_picture_of_another_size_is_cropped_to_its_middle_square_and_smoothed(tmp_path, rng):
    coarse = Image.fromarray(rng.integers(0, 256, (9, 15, 3), np.uint8))
    wide = coarse.resize((150, 90), Image.Resampling.BICUBIC)
    wide.save(tmp_path / "wide.png")
    pixels, kind = folders.read_picture(tmp_path / "wide.png")
    square = TF.center_crop(TF.pil_to_tensor(wide), 90).float()
    smooth = TF.resize(square, 32, TF.InterpolationMode.BICUBIC, antialias=True)
    assert kind == "RGB" and pixels.shape == (3, 32, 32)
    np.testing.assert_allclose(pixels, smooth.clamp(0, 255), atol=3)


@pytest.mark.parametrize("scale", [50, 16, 5, 2])
def test_a_large_jpeg_read_small_looks_the_same(tmp_path, rng, scale):
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
    photo = coarse.resize((32 * scale, 24 * scale), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "photo.jpg", quality=95, subsampling=0)
    pixels, _ = folders.read_picture(tmp_path / "photo.jpg")
    plain = photo.crop((4 * scale, 0, 28 * scale, 24 * scale)).resize((32, 32))
    assert np.abs(pixels - np.asarray(plain, float).transpose(2, 0, 1)).mean() < 2


def test_a_phone_picture_is_turned_upright(tmp_path, rng):
    upright = rng.integers(0, 256, (32, 32, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be shown turned a quarter to the right
    Image.fromarray(np.rot90(upright)).save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(
        folders.read_picture(tmp_path / "phone.png")[0], upright.transpose(2, 0, 1)
    )


def test_grey_transparent_and_palette_pictures_become_rgb_with_one_warning(photos, rng):
    grey = rng.integers(0, 256, (32, 32), np.uint8)
    clear = np.dstack([grey, grey, grey, np.full_like(grey, 51)])  # a fifth of it shows
    palette = Image.new("P", (32, 32), 1)
    palette.putpalette([9, 9, 9, 10, 200, 30])
    cat = photos / "train" / "cat"
    Image.fromarray(grey).save(cat / "0.png")
    Image.fromarray(clear).save(cat / "1.png")
    palette.save(cat / "2.png")
    palette.save(cat / "3.png", transparency=1)
    Image.fromarray(grey.astype(np.uint16) * 256 + 7).save(cat / "4.png")  # 16 bits
    with pytest.warns(UserWarning) as caught:
        train = load_images(photos)
    message = str(caught[0].message)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "1 I;16, 1 RGBA, 1 grey, 2 palette of 20 pictures" in message and str(photos) in message
    cats = train.images[train.labels == 2].numpy()
    np.testing.assert_array_equal(cats[0], np.broadcast_to(grey, (3, 32, 32)))
    np.testing.assert_allclose(cats[1], np.broadcast_to(204 + grey / 5, (3, 32, 32)), atol=1)
    assert (cats[2] == np.array([10, 200, 30]).reshape(3, 1, 1)).all()
    assert (cats[3] == 255).all()
    np.testing.assert_array_equal(cats[4], np.broadcast_to(grey, (3, 32, 32)))


# Folders that will not do


def no_folder(photos):
    return photos.parent / "elsewhere" / "photos"


def a_file(photos):
    return photos / "train" / "cat" / "0.png"


def loose(photos):
    return photos / "train" / "cat"


def one_class(photos):
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (photos / split / name).rename(photos.parent / f"{split}{name}")
    return photos


def empty_class(photos):
    for i in range(3):
        (photos / "train" / "ant" / f"{i}.png").unlink()
    return photos


def unknown_class(photos):
    (photos / "test" / "ant").rename(photos / "test" / "Ant")
    return photos


def train_alone(photos):
    (photos / "test").rename(photos / "other")
    return photos


def single_picture(photos):
    return photos / "test"


def unreadable(photos):
    path = photos / "train" / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:500])
    (photos / "test" / "cat" / "0.png").write_text("no picture")
    (photos / "test" / "bee" / "0.png").write_bytes(b"")
    return photos


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (no_folder, FileNotFoundError, "no source and no folder '{0}'"),
        (a_file, ValueError, "{0} is a file, not a folder"),
        (loose, ValueError, "{0} has no class folders (7 pictures lie directly in it)"),
        (one_class, ValueError, "{0} has one class only (cat)"),
        (
            empty_class,
            ValueError,
            "The class folder {0}/train/ant holds no pictures (nothing else): put",
        ),
        (unknown_class, ValueError, "{0} has Ant in test/, not in train/"),
        (train_alone, ValueError, "{0} has train/ but not both train/ and test/"),
        (single_picture, ValueError, "{0} has one picture only of ant"),
        (unreadable, ValueError, "3 of 20 pictures in {0} cannot be read"),
        (
            unreadable,
            ValueError,
            "the first is {0}/test/bee/0.png (it is no picture, or a damaged one)",
        ),
    ],
)
def test_a_folder_that_will_not_do_is_told_in_one_sentence(photos, home, spoil, kind, words):
    folder = spoil(photos)
    with pytest.raises(kind) as error:
        load_images(folder)
    assert words.format(folder).replace("/", os.sep) in one_sentence(error).replace("/", os.sep)
    assert not list(home.rglob("*.npz"))


def test_names_that_are_no_source():
    with pytest.raises(FileNotFoundError, match="did you mean 'cifar10'") as error:
        load_images("CIFAR-10")
    assert "auto, cifar10, cifar100, shapes" in one_sentence(error)
    with pytest.raises(FileNotFoundError, match=": choose auto, cifar10") as error:
        load_images("mnist")
    one_sentence(error)
    with pytest.raises(ValueError, match="no split 'val': choose 'train' or 'test'") as error:
        load_images("shapes", "val")
    one_sentence(error)


def test_a_folder_may_be_named_from_where_one_stands(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    assert data.resolve("photos") == data.resolve(photos) == str(photos.resolve())
    photos.rename(photos.parent / "shapes")  # a name of ours, so it takes a path to mean the folder
    assert data.resolve("shapes") == "shapes"
    assert len(load_images("./shapes")) == len(load_images(Path("shapes"))) == 15


def test_what_mac_and_windows_leave_behind_is_no_class(photos):
    for split in ("train", "test"):
        (photos / split / "__MACOSX").mkdir()
        (photos / split / ".ipynb_checkpoints").mkdir()
        (photos / split / "Thumbs.db").write_text("")
        (photos / split / "cat" / "._0.png").write_text("")
    assert load_images(photos).classes == ("ant", "bee", "cat")


# The cache of decoded folders


def no_decoding(path):
    raise AssertionError(f"{path} was decoded again")


def test_the_second_start_decodes_nothing(photos, home, monkeypatch):
    first = load_images(photos)
    monkeypatch.setattr(folders, "read_picture", no_decoding)
    second, test = load_images(photos), load_images(photos, "test")
    assert torch.equal(first.images, second.images) and len(test) == 5
    assert [path.suffix for path in (home / "cache").iterdir()] == [".npz"]


def change(photos):
    path = photos / "train" / "cat" / "3.png"  # another time, the same size
    changed = np.full((32, 32, 3), 7, np.uint8)
    stat = path.stat()
    Image.fromarray(changed).save(path)
    path.write_bytes(path.read_bytes().ljust(stat.st_size, b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))
    assert path.stat().st_size == stat.st_size


def add(photos):
    source = photos / "train" / "cat" / "3.png"
    source.with_name("30.png").write_bytes(source.read_bytes())


def remove(photos):
    (photos / "train" / "cat" / "3.png").unlink()


def rename(photos):
    (photos / "train" / "cat" / "3.png").rename(photos / "train" / "bee" / "9.png")


@pytest.mark.parametrize("alter", [change, add, remove, rename])
def test_the_cache_notices_a_changed_folder(photos, alter):
    load_images(photos)
    alter(photos)
    theirs = datasets.ImageFolder(photos / "train")
    ours = load_images(photos)
    assert ours.labels.tolist() == theirs.targets
    assert torch.equal(ours.images, torch.stack([TF.pil_to_tensor(image) for image, _ in theirs]))


def test_a_damaged_cache_is_made_anew(photos, home, monkeypatch):
    first = load_images(photos)
    (kept,) = (home / "cache").iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", b"garbage", whole[: len(whole) // 2]):
        kept.write_bytes(damaged)
        assert torch.equal(load_images(photos).images, first.images)
        assert kept.read_bytes() == whole


def test_two_folders_of_one_name_do_not_share_a_cache(photos, flat, home):
    (flat.parent / "other").mkdir()
    twin = flat.rename(flat.parent / "other" / "photos")
    assert [len(load_images(folder)) for folder in (photos, twin, photos)] == [15, 26, 15]
    assert len(list((home / "cache").iterdir())) == 2


@pytest.mark.parametrize("where", ["not a folder", "disk full"])
def test_without_a_place_for_the_cache_one_warning_and_on(photos, home, monkeypatch, where):
    if where == "not a folder":
        home.write_text("a file")
    else:

        def full(file, **_):
            file.write(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning) as caught:
        train = load_images(photos)
    assert len(train) == 15 and len(caught) == 1 and caught[0].filename == __file__
    assert re.search(r"Cannot keep .*\((Not a dir|File exists|No space)", str(caught[0].message))
    assert not list(home.rglob("*.*"))


# The embedded shapes, and CIFAR that is not there (test_download.py has CIFAR that is)


@pytest.fixture
def drawn(monkeypatch):
    """Replace the drawing by a quick one, and note its calls."""
    calls = []

    def draw(split="train", seed=0):
        calls.append((split, seed))
        few = image_set(40 if split == "train" else 20, 10, seed=len(split))
        return few.images.numpy(), few.labels.numpy()

    monkeypatch.setattr(data.shapes, "draw", draw)
    sources._draw_shapes.cache_clear()
    yield calls
    sources._draw_shapes.cache_clear()


def test_shapes_are_drawn_once_and_are_one_dataset(drawn):
    train, test = load_images("shapes", seed=0), load_images("shapes", "test", seed=5)
    assert sorted(drawn) == [("test", 0), ("train", 0)]
    assert (train.name, len(train), len(test)) == ("shapes", 40, 20)
    assert train.classes == tuple(data.shapes.CLASSES)
    assert test.mean == train.mean == channel_statistics(train.images)[0]
    train.images.zero_()
    assert load_images("shapes").images.any(), "what a reader overwrites stays the reader's"


def test_auto_falls_back_on_shapes(drawn, home):
    assert load_images().name == data.resolve("auto") == "shapes"
    (home / "cifar-10-batches-py").mkdir(parents=True)
    assert data.resolve("auto") == "cifar10"
    with pytest.raises(FileNotFoundError, match="data_batch_1 .missing."):
        load_images()
    assert load_images(root=home / "other").name == "shapes"


@pytest.mark.parametrize(("source", "name"), [("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100")])
def test_cifar_that_is_not_there(source, name, home, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{name} is not whole in ") as error:
        load_images(source)
    assert str(home) in one_sentence(error) and "no such folder" in str(error.value)
    assert f"`python -m densenet_lib data --source {source}`" in str(error.value)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "there"))):
        load_images(source, root=tmp_path / "there")


def test_home_is_told_by_the_environment_or_lies_beside_the_library(monkeypatch, home):
    assert data.home() == home
    monkeypatch.setenv("DENSENET_HOME", os.path.join("~", "pictures"))
    assert data.home() == Path.home() / "pictures"
    monkeypatch.delenv("DENSENET_HOME")
    assert data.home() == Path(data.__file__).parents[2] / "data"


# Image sets


def test_halved_pictures_are_the_means_of_2x2_pixels():
    whole = image_set(7)
    half = whole.halved()
    squares = whole.images.numpy().reshape(7, 3, 16, 2, 16, 2).astype(float)
    assert np.array_equal(half.images.numpy(), np.rint(squares.mean(axis=(3, 5))))
    assert half.images.dtype == torch.uint8 and whole.images.shape == (7, 3, 32, 32)
    assert half.halved().images.shape == (7, 3, 8, 8)
    assert torch.equal(half.labels, whole.labels)
    kept = "classes", "mean", "std", "name", "split"
    assert all(getattr(half, name) == getattr(whole, name) for name in kept)


def test_an_image_set_introduces_itself():
    text = str(image_set())
    assert text == repr(image_set()) and "\n" not in text
    assert text.startswith("random train: 50 pictures, 5 classes, mean (0.") and "std (0.2" in text


@pytest.mark.parametrize(
    ("part", "count"),
    [
        *((0.1, 20), (0.25, 50), (30, 30), (195, 195)),
        *((np.float32(0.1), 20), (Fraction(1, 4), 50), (np.int64(30), 30)),
    ],
)
def test_validation_split_has_the_mix_of_classes(part, count):
    whole = image_set(200)
    labels = torch.tensor([0] * 100 + [1] * 60 + [2] * 20 + [3] * 10 + [4] * 10)
    whole = ImageSet(whole.images, labels, whole.classes, whole.mean, whole.std, "x", "train")
    train, validation = split_validation(whole, part)
    assert (len(train), len(validation)) == (200 - count, count)
    assert (train.split, validation.split) == ("train", "validation")
    assert validation.mean == train.mean == whole.mean
    assert len(pictures(train.images) | pictures(validation.images)) == 200
    shares = validation.labels.bincount() / labels.bincount()
    all_but_one = 1 - 1 / labels.bincount().numpy()  # every class keeps a picture to train on
    np.testing.assert_allclose(shares, np.minimum(count / 200, all_but_one), atol=0.051)
    again, other = split_validation(whole, part), split_validation(whole, part, seed=1)
    assert torch.equal(again[1].images, validation.images)
    assert pictures(other[0].images) != pictures(train.images)


@pytest.mark.parametrize(
    ("counts", "part", "train", "validation"),
    [([40, 1], 0.1, [36, 1], [4, 0]), ([2, 2, 30], 0.7, [1, 1, 8], [1, 1, 22])],
)
def test_a_rare_class_keeps_a_picture_to_train_on(counts, part, train, validation):
    labels = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)])
    whole = ImageSet(image_set(len(labels)).images, labels, "abc", (0,) * 3, (1,) * 3, "x", "train")
    for seed in range(5):
        halves = split_validation(whole, part, seed)
        found = [half.labels.bincount(minlength=len(counts)).tolist() for half in halves]
        assert found == [train, validation]


@pytest.mark.parametrize("part", [0, 4, 0.0, 1.0, 46, 51, -5])
def test_validation_split_leaves_both_sides_something(part):
    with pytest.raises(ValueError, match="of 50 pictures for validation: each side needs") as error:
        split_validation(image_set(50), part)
    one_sentence(error)


# Batches


@pytest.mark.parametrize("batch_size", [1, 16, 50, 64])
def test_batches_are_those_of_torchvision_and_a_dataloader(batch_size):
    source = image_set(50)
    way = transforms.Compose([transforms.ToTensor(), transforms.Normalize(source.mean, source.std)])
    images = torch.stack([way(Image.fromarray(i.permute(1, 2, 0).numpy())) for i in source.images])
    loader = DataLoader(TensorDataset(images, source.labels), batch_size)
    batches = Batches(source, batch_size)
    assert len(batches) == len(loader) == len(list(batches))
    for _ in range(2):
        for (ours, labels), (theirs, expected) in zip(batches, loader, strict=True):
            assert ours.dtype == torch.float32 and labels.dtype == torch.int64
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
            assert torch.equal(labels, expected)


def test_a_dataloader_gives_what_batches_gives():
    source = image_set(50)
    for workers in (0, 1):
        loader = DataLoader(source, 16, num_workers=workers)
        for (ours, labels), (theirs, expected) in zip(Batches(source, 16), loader, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
            assert torch.equal(labels, expected) and expected.dtype == torch.int64
    assert len(list(source)) == 50


def test_a_normalised_training_set_has_mean_0_and_deviation_1():
    images = torch.cat([images for images, _ in Batches(image_set(50), 16)]).double()
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        images.std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-6, rtol=0
    )


def numbered(n=64, **settings):
    """Make batches of pictures that can be told apart by their label, their number."""
    source = image_set(n)
    source = ImageSet(source.images, torch.arange(n), ("x",), source.mean, source.std, "x", "train")
    return Batches(source, 10, **settings), source


def one_pass(batches):
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_every_picture_once_an_epoch_in_a_new_order():
    batches, _ = numbered(shuffle=True)
    orders = [one_pass(batches)[1].tolist() for _ in range(3)]
    assert all(sorted(order) == list(range(64)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0] != list(range(64))


def test_the_first_passes_are_plain():
    options = {"shuffle": True, "seed": 3, "cutout": 8}
    mine, plain = numbered(augment=True, plain_epochs=2, **options)[0], numbered(**options)[0]
    for epoch, other in enumerate((plain, plain, numbered(augment=True, **options)[0])):
        mine.epoch = other.epoch = epoch
        assert all(torch.equal(a, b) for a, b in zip(one_pass(mine), one_pass(other), strict=True))


def test_shuffled_pictures_keep_their_labels():
    plain, shuffled = one_pass(numbered()[0])[0], one_pass(numbered(shuffle=True)[0])
    assert torch.equal(shuffled[0], plain[shuffled[1]])


def slow_view(picture, flip, down, right):
    """Do with one normalised picture (3, 32, 32) what augmentation may do, the plain way."""
    padded = torch.zeros(3, 40, 40)
    padded[:, 4:36, 4:36] = picture
    window = TF.crop(padded, down, right, 32, 32)
    return TF.hflip(window) if flip else window


def test_each_augmented_picture_is_a_true_flip_and_shift():
    batches, _ = numbered(640, augment=True, shuffle=True)
    plain = one_pass(numbered(640)[0])[0]
    seen = []
    for image, label in zip(*one_pass(batches), strict=True):
        fits = [
            (flip, down, right)
            for flip in (0, 1)
            for down in range(9)
            for right in range(9)
            # one pixel first, which is in view whatever the shift
            if image[0, 16, 15 if flip else 16] == plain[label, 0, 12 + down, 12 + right]
            and torch.equal(image, slow_view(plain[label], flip, down, right))
        ]
        assert len(fits) == 1
        seen += fits
    flips, downs, rights = (np.bincount(values) for values in zip(*seen, strict=True))
    assert abs(flips[1] / 640 - 1 / 2) < 0.08  # 4 standard deviations
    for shifts in (downs, rights):  # all nine equally often: 71 times, give or take 4 deviations
        assert len(shifts) == 9 and abs(shifts - 640 / 9).max() < 32
    assert len(set(seen)) > 140  # of 162: flip and both shifts are drawn apart


def test_flip_and_shift_against_the_slow_way():
    images = torch.randn(20, 3, 32, 32)
    generator = torch.Generator().manual_seed(1)
    flip = torch.randint(2, (20, 1), generator=generator).bool()
    down, right = torch.randint(9, (2, 20, 1), generator=generator)
    expected = [slow_view(*four) for four in zip(images, flip, down, right, strict=True)]
    assert torch.equal(data.flip_and_shift(images, flip, down, right), torch.stack(expected))


def slow_cut(picture, side, row, column):
    picture = picture.clone()
    for y in range(row - side // 2, row - side // 2 + side):
        for x in range(column - side // 2, column - side // 2 + side):
            if 0 <= y < picture.shape[1] and 0 <= x < picture.shape[2]:
                picture[:, y, x] = 0
    return picture


@pytest.mark.parametrize("side", [0, 1, 7, 8, 64])
def test_cut_out_against_the_slow_way(side):
    images = torch.randn(40, 3, 20, 30)  # not square, which would hide swapped axes
    generator = torch.Generator().manual_seed(1)
    row, column = (torch.randint(size, (40, 1), generator=generator) for size in (20, 30))
    expected = [slow_cut(x, side, *place) for x, *place in zip(images, row, column, strict=True)]
    assert torch.equal(data.cut_out(images, side, row, column), torch.stack(expected))


def test_cutout_hides_squares_everywhere_and_changes_nothing_else():
    with_holes, whole = (numbered(640, augment=True, shuffle=True, cutout=n)[0] for n in (8, 0))
    images, labels = one_pass(with_holes)
    expected, same = one_pass(whole)
    assert torch.equal(labels, same)
    hidden = (images != expected).any(dim=1)  # (640, 32, 32); a border is 0 with a hole or without
    assert images[hidden[:, None].expand_as(images)].count_nonzero() == 0
    assert (hidden.flatten(1).sum(dim=1) <= 64).all()
    centre, corner = hidden[:, 12:20, 12:20].double().mean(), hidden[:, 4:8, 4:8].double().mean()
    # Each is hidden by 64 of the 1024 centres; 0.04 are 4 standard deviations of 640 pictures.
    assert abs(centre - 64 / 1024) < 0.04 and abs(corner - 64 / 1024) < 0.04


def test_seed_and_epoch_decide_everything():
    def third(seed):
        batches, _ = numbered(augment=True, shuffle=True, seed=seed)
        batches.epoch = 2
        return one_pass(batches)

    batches, _ = numbered(augment=True, shuffle=True, seed=3)
    passes = [one_pass(batches) for _ in range(3)]
    assert batches.epoch == 3
    assert all(torch.equal(a, b) for a, b in zip(passes[2], third(3), strict=True))
    assert not torch.equal(passes[2][1], third(4)[1])
    # (seed, epoch) must not be confused with (epoch, seed) or with their sum
    other, _ = numbered(augment=True, shuffle=True, seed=2)
    other.epoch = 3
    assert not torch.equal(one_pass(other)[1], passes[2][1])
    far, _ = numbered(shuffle=True, seed=2**32 + 3)
    far.epoch = 2
    assert not torch.equal(one_pass(far)[1], passes[2][1])


def test_the_pictures_do_not_depend_on_the_batch_size_or_on_torchs_own_seed():
    source = image_set(50)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    small = one_pass(Batches(source, 7, augment=True, shuffle=True))
    assert torch.equal(torch.get_rng_state(), state)
    large = one_pass(Batches(source, 50, augment=True, shuffle=True))
    assert all(torch.equal(a, b) for a, b in zip(small, large, strict=True))


def test_an_abandoned_pass_does_not_count_and_comes_again():
    batches, _ = numbered(shuffle=True)
    first = next(iter(batches))
    assert batches.epoch == 0 and torch.equal(next(iter(batches))[1], first[1])
    for _, _ in zip(range(len(batches)), batches, strict=False):
        pass  # nobody asks whether there is more behind the last batch
    assert batches.epoch == 1 and not torch.equal(next(iter(batches))[1], first[1])


def test_a_batch_may_be_overwritten():
    source = image_set(50)
    before = source.images.clone(), source.labels.clone()
    for images, labels in Batches(source, 16):
        images.zero_(), labels.zero_()
    assert torch.equal(source.images, before[0]) and torch.equal(source.labels, before[1])


def test_batches_that_cannot_be():
    with pytest.raises(ValueError, match="batch_size=0 makes no batches") as error:
        Batches(image_set(), 0)
    one_sentence(error)
    for share in ((5, 2), (2, 2), (-1, 2)):
        with pytest.raises(ValueError, match=re.escape(f"share={share} is none")) as error:
            Batches(image_set(), 10, share=share)
        one_sentence(error)
    with pytest.raises(ValueError, match="no picture in random train") as error:
        Batches(image_set().subset([]), 4)
    one_sentence(error)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_the_same_batches():
    ours, on_gpu = (
        numbered(augment=True, shuffle=True, device=device)[0] for device in ("cpu", "cuda")
    )
    for (a, b), (c, d) in zip(ours, on_gpu, strict=True):
        assert c.is_cuda and torch.equal(b, d.cpu())
        torch.testing.assert_close(a, c.cpu(), rtol=1e-6, atol=1e-6)


def test_reading_a_plain_folder_warns_of_nothing(photos):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_images(photos)
