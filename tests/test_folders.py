"""Folders as readers have them: nothing is dropped, flattened or misread without a word."""

import io
import os
import struct
import sys
import unicodedata
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from densenet_lib import data
from densenet_lib.data import folders, load_images


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DENSENET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "pets"


def put(path, value=0, kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (value, value, value)).save(path, kind)


def classes(folder, *names, count=5, ending="png", kind=None):
    for name in names or ("ant", "bee"):
        for i in range(count):
            put(folder / name / f"{i}.{ending}", i, kind)
    return folder


def read(folder):
    """Load both parts of a folder: (pictures of each class in train, in test, what was said)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train, test = load_images(folder), load_images(folder, "test")
    said = {str(warning.message) for warning in caught}
    assert len(said) < 2 and len(caught) == 2 * len(said), "one sentence, from the cache as well"
    assert all(warning.filename == __file__ for warning in caught)
    counts = [
        dict(zip(s.classes, s.labels.bincount(minlength=len(s.classes)).tolist(), strict=True))
        for s in (train, test)
    ]
    return (*counts, *(said or {""}))


def refused(folder):
    with pytest.raises(ValueError) as error:
        load_images(folder)
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and " remove " not in message
    return message


# Files


@pytest.mark.parametrize(
    ("ending", "kind"),
    [("jfif", "JPEG"), ("JPE", "JPEG"), ("tga", "TGA"), ("jp2", "JPEG2000"), ("avif", "AVIF")],
)
def test_whatever_pillow_reads_is_read(root, ending, kind):
    if f".{ending.lower()}" not in folders.endings():
        pytest.skip(f"pillow here reads no .{ending}")
    assert read(classes(root, ending=ending, kind=kind)) == (
        {"ant": 4, "bee": 4},
        {"ant": 1, "bee": 1},
        "",
    )


def test_what_no_decoder_draws_is_not_taken_for_a_picture():
    assert {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"} <= folders.endings()
    assert not {".eps", ".mpg", ".pdf", ".txt", ".wmf"} & folders.endings()


@pytest.mark.parametrize(("ending", "told"), [("heic", True), ("HEIF", True), ("png", False)])
def test_apples_format_is_named(tmp_path, ending, told):
    (tmp_path / f"a.{ending}").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ValueError) as error:
        folders.read_picture(tmp_path / f"a.{ending}")
    assert ("HEIC: export it as JPEG" in str(error.value)) is told


def test_what_is_left_out_is_counted_in_one_sentence(root):
    classes(root, "ant", "bee", "cat", "dog", "eel")
    for i in range(20):
        (root / "ant" / f"{i}.HEIC").write_text("")
    for name in ("bee", "cat", "dog", "eel"):
        (root / name / "notes").write_text("")
    put(root / "cover.png")
    *_, said = read(root)
    assert said == (
        f"In {root}: left out of pets/: 20 of 25 files in ant (.heic), 1 of 6 files in bee "
        "(no ending), 1 of 6 files in cat (no ending) and 3 more."
    )


def test_pictures_in_subfolders_belong_to_the_class(root):
    classes(root)
    classes(root / "ant", "big", "small")
    (root / "ant" / "big" / "again").symlink_to(root / "ant", target_is_directory=True)
    assert read(root)[:2] == ({"ant": 12, "bee": 4}, {"ant": 3, "bee": 1})


def test_a_link_to_a_folder_above_is_not_followed(root):
    classes(root)
    (root / "ant" / "all").symlink_to(root, target_is_directory=True)
    assert read(root)[:2] == ({"ant": 4, "bee": 4}, {"ant": 1, "bee": 1})


def test_a_link_that_leads_nowhere_is_named_like_a_damaged_picture(root):
    classes(root)
    (root / "ant" / "gone.png").symlink_to(root / "none.png")
    assert "1 of 11 pictures" in refused(root)


def test_what_servers_and_programs_keep_is_no_class(root):
    classes(root, "ant", "bee", "@eaDir", "#recycle", ".thumbnails", "@Recycle")
    classes(root / "ant", "@eaDir")
    assert read(root) == ({"ant": 4, "bee": 4}, {"ant": 1, "bee": 1}, "")


@pytest.mark.parametrize(
    ("ending", "said"), [("", "nothing else"), ("heic", "files of other kinds: 5")]
)
def test_a_class_without_pictures_is_refused_and_nobody_told_to_delete_it(root, ending, said):
    (classes(root) / "cat").mkdir()
    for i in range(5 if ending else 0):
        (root / "cat" / f"{i}.{ending}").write_text("")
    assert f"The class folder {root / 'cat'} holds no pictures ({said})" in refused(root)


# Layouts


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("train", "valid"), ("TRAIN", "Val")]
)
def test_a_split_has_several_names(root, train, test):
    classes(root / train), classes(root / test, count=2)
    counted = ({"ant": 5, "bee": 5}, {"ant": 2, "bee": 2})
    serves = test.lower().startswith("v")
    assert read(root) == (*counted, f"In {root}: {test}/ serves for testing." if serves else "")


def test_a_third_part_is_left_out_aloud(root):
    for name in ("train", "val", "test"):
        classes(root / name)
    assert read(root)[2] == f"In {root}: left out beside train/ and test/: val."


def test_two_folders_for_one_half(root):
    for name in ("train", "Training", "test"):
        classes(root / name)
    assert "has Training/ and train/, which mean the same" in refused(root)


def test_a_class_may_be_called_train(root):
    assert read(classes(root, "boat", "train", "valid"))[0] == {"boat": 4, "train": 4, "valid": 4}


@pytest.mark.parametrize("inner", ["pets", "train"])
def test_a_folder_in_a_folder_is_looked_into(root, inner):
    classes(root / inner)
    said = f"In {root / inner}: the only folder, {inner}/, is taken for the whole."
    assert read(root) == ({"ant": 4, "bee": 4}, {"ant": 1, "bee": 1}, said)


def test_a_copy_within_is_no_class(root):
    classes(root), classes(root / "pets")
    assert f"{root / 'pets'} holds folders named like classes (ant, bee)" in refused(root)


@pytest.mark.parametrize("empty", [False, True])
def test_a_class_that_is_absent_from_test_is_said(root, empty):
    classes(root / "train", "ant", "bee", "cat"), classes(root / "test", "bee", "cat")
    if empty:
        (root / "test" / "ant").mkdir()
    train, test, said = read(root)
    assert (train, test) == ({"ant": 5, "bee": 5, "cat": 5}, {"ant": 0, "bee": 5, "cat": 5})
    assert said == f"In {root}: no picture of ant in test/, so nothing tests that."


# Names


def test_two_unicode_forms_are_one_name(root):
    forms = [unicodedata.normalize(form, "fenêtre") for form in ("NFC", "NFD")]
    for part, form in zip(("train", "test"), forms, strict=True):
        classes(root / part, form, "porte")
    assert read(root)[0] == {forms[0]: 5, "porte": 5}
    classes(root / "train", forms[1])
    assert "in two Unicode forms: rename one" in refused(root)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("within", [False, True])
def test_a_name_in_other_bytes_than_utf8(root, within):
    odd = os.fsdecode(b"fen\xeatre")
    folder = classes(root / odd if not within else root)
    if within:
        classes(root, odd)
    message = refused(folder)
    assert "fen\\udceatre' has a name that is not UTF-8: rename it" in message
    message.encode()  # so any console and any notebook can show it


# Kinds of picture


def test_a_deep_pictures_transparent_grey_is_white(tmp_path):
    values = np.full((32, 32), 5000, np.uint16)
    values[0] = 30000
    Image.fromarray(values).save(tmp_path / "deep.png", transparency=5000)
    pixels, _ = folders.read_picture(tmp_path / "deep.png")
    assert (pixels[:, 0] == 30000 >> 8).all() and (pixels[:, 1:] == 255).all()


RAMP = np.linspace(0, 1, 1024).reshape(32, 32)


@pytest.mark.parametrize(
    "values",
    [
        RAMP.astype(np.float32),
        (255 * RAMP).astype(np.float32),
        (65535 * RAMP).astype(np.uint16),
        (65535 * RAMP).astype(np.int32),
        (255 * RAMP).astype(np.int32),
    ],
    ids=["float to 1", "float to 255", "16 bits", "32 bits to 65535", "32 bits to 255"],
)
def test_deep_pictures_are_scaled(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "deep.tif")
    pixels, _ = folders.read_picture(tmp_path / "deep.tif")
    np.testing.assert_allclose(pixels, np.broadcast_to(255 * RAMP, (3, 32, 32)), atol=1)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((2 * RAMP - 1).astype(np.float32), "-1 to 1"),
        ((300 * RAMP).astype(np.float32), "0 to 300"),
        (np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32), "nan to nan"),
        ((4095 * RAMP).astype(np.uint16), "0 to 4095"),
        ((70000 * RAMP).astype(np.int32), "0 to 70000"),
    ],
)
def test_deep_pictures_whose_white_is_not_known_are_refused(root, values, found):
    classes(root)
    Image.fromarray(values).save(root / "ant" / "deep.tif")
    message = refused(root)
    assert f"(its values, {found}, leave open what is white: use 8 bits)" in message
    assert f"1 of 11 pictures in {root} cannot be read" in message


def bomb():
    """A PNG that says it has 3,600 million pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    head = bytearray(buffer.getvalue())
    head[16:24] = struct.pack(">II", 60_000, 60_000)
    head[29:33] = struct.pack(">I", zlib.crc32(head[12:29]))
    return bytes(head)


@pytest.mark.parametrize("raised", [IndexError(), struct.error("x"), SyntaxError("a\nb"), None])
def test_whatever_a_decoder_raises_is_the_promised_sentence(tmp_path, monkeypatch, raised):
    (tmp_path / "x.png").write_bytes(bomb())
    if raised is not None:

        def broken(_):
            raise raised

        monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(ValueError, match="^it is no picture, or a damaged one") as error:
        folders.read_picture(tmp_path / "x.png")
    assert "\n" not in str(error.value)
    assert raised or "exceeds limit" in str(error.value)


# The cache


def test_a_file_that_changed_at_equal_size_and_time_is_noticed(root):
    first = load_images(classes(root))
    path = root / "ant" / "0.png"
    before = path.stat()
    Image.new("L", (32, 32), 200).save(path)  # grey, which is shorter
    path.write_bytes(path.read_bytes().ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert not any((i == 200).all() for i in first.images)
    with pytest.warns(UserWarning, match="1 grey of 10"):
        again = torch.cat([load_images(root, split).images for split in ("train", "test")])
    assert sum(bool((i == 200).all()) for i in again) == 1


def test_one_flipped_bit_gives_no_other_pixels(root, home):
    first = load_images(classes(root)).images
    (kept,) = (home / "cache").iterdir()
    whole = kept.read_bytes()
    for place in [
        *range(0, 400, 9),
        *range(400, len(whole), 997),
        *range(len(whole) - 400, len(whole), 9),
    ]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        kept.write_bytes(damaged)
        assert torch.equal(load_images(root).images, first), place


def test_another_picture_size_is_another_cache(root, monkeypatch):
    load_images(classes(root))
    monkeypatch.setattr(folders, "SIZE", 16)
    assert load_images(root).images.shape == (8, 3, 16, 16)


# What names the data


def test_a_source_that_is_no_text():
    for wrong in (5, None, 2.5):
        with pytest.raises(ValueError, match=f"The data is {wrong}, no text: choose auto, cifar10"):
            load_images(wrong)
    assert data.resolve("") == data.resolve("auto") == "shapes"  # as DENSENET_DATA= means


def test_a_relative_home_is_the_same_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("DENSENET_HOME", "pictures")
    monkeypatch.chdir(tmp_path)
    assert data.home() == Path(data.__file__).parents[2] / "pictures"


def test_a_home_that_may_not_be_read_is_not_taken_for_an_empty_one(home, monkeypatch):
    home.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != home)
    with pytest.raises(PermissionError, match="cannot be looked into: allow reading it, or set"):
        load_images()
