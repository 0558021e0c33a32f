"""The folder of glyphs: the same files for a seed, every glyph to be seen, awkward as said."""

import hashlib
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from densenet_lib.data import glyphs, load_images
from densenet_lib.data.folders import read_picture

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "glyphs"
    glyphs.write_folder(folder, FONTS, train=12, test=3)
    return folder


def files(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def test_every_class_has_its_pictures_and_the_awkward_files_are_there(folder):
    found = files(folder)
    assert glyphs.AWKWARD.keys() <= found.keys()
    counts = Counter(tuple(name.split("/")[:2]) for name in found.keys() - glyphs.AWKWARD.keys())
    assert counts == {
        (part, kind): count for part, count in (("train", 12), ("test", 3)) for kind in glyphs.KINDS
    }
    assert {Path(name).suffix for name in found} >= {".png", ".jpg", ".bmp", ".gif"}
    assert any("/more/" in name for name in found)


def test_the_same_seed_draws_the_same_folder(folder, tmp_path):
    glyphs.write_folder(tmp_path / "again", FONTS, train=12, test=3)
    glyphs.write_folder(tmp_path / "other", FONTS, train=12, test=3, seed=1)
    bytes_of = [
        {name: path.read_bytes() for name, path in files(place).items()}
        for place in (folder, tmp_path / "again", tmp_path / "other")
    ]
    assert bytes_of[0] == bytes_of[1] != bytes_of[2]


def test_the_awkward_files_are_what_is_said_of_them(folder, tmp_path):
    for name in ("train/hebrew/cut.jpg", "train/stars/empty.png", "train/suits/notes.txt"):
        with pytest.raises(ValueError, match="no picture, or a damaged one"):
            read_picture(folder / name)
    same = {"train/cyrillic/twin.png": "greek", "test/chess/copy.png": "chess"}
    same["test/music/copy.png"] = "music"
    for name, kind in same.items():
        assert (folder / name).read_bytes() == (folder / "train" / kind / "000.png").read_bytes()
    everything = Counter(hashlib.sha256(p.read_bytes()).hexdigest() for p in files(folder).values())
    assert sum(count > 1 for count in everything.values()) == len(same)
    for kind in ("arrows", "stars"):
        one, other = folder / "test" / kind / "again.jpg", folder / "train" / kind / "000.png"
        gap = read_picture(one)[0].astype(float) - read_picture(other)[0]
        assert 0 < np.abs(gap).mean() < 12
        with Image.open(one) as small, Image.open(other) as large:
            assert small.width < large.width


def test_without_awkward_files_it_loads_as_it_is(tmp_path):
    glyphs.write_folder(tmp_path / "plain", FONTS, train=3, test=2, awkward=False)
    with pytest.warns(UserWarning, match="converted to RGB"):
        found = load_images(tmp_path / "plain", root=tmp_path)
    assert found.classes == tuple(glyphs.KINDS) and len(found) == 3 * len(glyphs.KINDS)
    assert (tmp_path / "cache").is_dir()  # where the caller wants it


def test_every_glyph_is_drawn_and_can_be_seen():
    """A font without the glyph would draw a box, the same for all."""
    random = np.random.RandomState(0)
    whole = "".join(glyphs.KINDS.values()) + glyphs.STRANGERS
    assert len(set(whole)) == len(whole)
    for name in glyphs.FONTS:
        font = glyphs.ImageFont.truetype(str(FONTS / name), 40)
        missing = bytes(font.getmask("\U0010fffd"))
        assert all(bytes(font.getmask(glyph)) != missing for glyph in whole), name
    pictures = [np.asarray(glyphs.draw(glyph, FONTS, random), float) for glyph in whole]
    assert min(picture.std(axis=(0, 1)).max() for picture in pictures) > 8
    assert {40 <= side <= 120 for p in pictures for side in p.shape[:2]} == {True}


def test_what_cannot_be_drawn_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no DejaVuSans\.ttf in .*give matplotlib's"):
        glyphs.write_folder(tmp_path / "a", tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError):
        glyphs.write_folder(tmp_path / "there", FONTS)

    def full(folder):
        raise OSError("No space left on device")

    monkeypatch.setattr(glyphs, "_write_awkward", full)
    with pytest.raises(OSError, match="No space"):
        glyphs.write_folder(tmp_path / "b", FONTS, train=1, test=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]
