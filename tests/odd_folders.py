"""Folders of pictures that readers have and authors forget: every notebook runs through on each.

python tests/odd_folders.py FOLDER    (writes them all there, one folder each)
"""

import sys
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from densenet_lib.data import shapes
from densenet_lib.data.images import SIZE

LONG = "a class whose name is as long as a whole line of text is, or so"


def two(folder):
    """Two classes, few pictures, with train/ and test/."""
    for part, count in (("train", 120), ("test", 75)):
        for name in ("heart", "star"):
            write(folder / part / name, shape(name, part, count))


def no_test(folder):
    """Two classes of 40 and no test folder."""
    for name in ("circle", "cross"):
        write(folder / name, shape(name, "train", 40))


def imbalanced(folder):
    """One common class and two rare ones: 450, 25 and 6 pictures."""
    for name, count in (("ring", 450), ("moon", 25), ("arrow", 6)):
        write(folder / name, shape(name, "train", count))


def easy(folder):
    """Ten classes that one look at the colour tells apart: every answer can be right."""
    for part, count in (("train", 60), ("test", 30)):
        for i in range(10):
            colour = np.array([25 * i, 255 - 25 * i, 25 * (i * 7 % 10)])
            noise = np.random.RandomState(i + count).randint(-9, 10, (count, SIZE, SIZE, 3))
            write(folder / part / f"colour {i}", np.clip(colour + noise, 0, 255))


def noise(folder):
    """Four classes of pure noise: nothing can be learned."""
    for i in range(4):
        pixels = np.random.RandomState(i).randint(0, 256, (60, SIZE, SIZE, 3))
        write(folder / f"noise{i}", pixels)


def many(folder):
    """Three hundred classes of four pictures."""
    for i in range(300):
        name = shapes.CLASSES[i % 10]
        write(folder / f"{name}{i:03}", shape(name, "train", 4, first=4 * (i // 10)))


def names(folder):
    """Class names with a dollar, an underscore, spaces, accents, and sixty letters."""
    odd = ("$5 to $9", "snake_case_", "with a space", "Fußgänger", LONG)
    for name, kind in zip(odd, shapes.CLASSES, strict=False):
        write(folder / name, shape(kind, "train", 30))


def grey(folder):
    """Grey pictures, stored as such, in three classes; one is absent from test/."""
    for part, count in (("train", 60), ("test", 30)):
        for name in ("flower", "square", "triangle")[: 3 if part == "train" else 2]:
            write(folder / part / name, shape(name, part, count).mean(axis=3))


def blank(folder):
    """Two classes of pictures without any blue, and one picture that is black all over."""
    for name in ("ring", "star"):
        pictures = shape(name, "train", 60)
        pictures[..., 2] = 0
        write(folder / name, pictures)
    write(folder / "ring", np.zeros((1, SIZE, SIZE, 3)), name="black")


FOLDERS = {f.__name__: f for f in (two, no_test, imbalanced, easy, noise, many, names, grey, blank)}


drawn = cache(shapes.draw)  # takes a second, and thousands are asked for


def shape(name, part, count, first=0):
    """Return `count` pictures of a kind of shape, (count, 32, 32, 3)."""
    images, labels = drawn(part)
    chosen = np.flatnonzero(labels == shapes.CLASSES.index(name))[first : first + count]
    return images[chosen].transpose(0, 2, 3, 1)


def write(folder, pictures, name=""):
    """Write pictures, (N, 32, 32) or (N, 32, 32, 3), as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{name}{i:03}.png")


if __name__ == "__main__":
    for name, make in FOLDERS.items():
        make(Path(sys.argv[1]) / name)
