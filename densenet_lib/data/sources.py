"""Four kinds of source, one call: CIFAR-10, CIFAR-100, the embedded shapes, your own folder."""

import difflib
import os
from functools import cache
from pathlib import Path

import torch

from densenet_lib.data import shapes
from densenet_lib.data.cifar import read_cifar
from densenet_lib.data.folders import check_name, read_folder
from densenet_lib.data.images import SPLITS, ImageSet, channel_statistics, stratified

SOURCES = ("auto", "cifar10", "cifar100", "shapes")


def home():
    """Return the folder for datasets: DENSENET_HOME, else data/ beside the library.

    A relative DENSENET_HOME starts there too, from wherever one calls.
    """
    named = Path(os.environ.get("DENSENET_HOME") or "data").expanduser()
    return Path(__file__).resolve().parents[2] / named


def resolve(source="auto", root=None):
    """Return what `source` means here: "auto" is CIFAR-10 if it is on disk, else the shapes.

    An empty text (an environment variable set to nothing) is "auto".
    Raises: FileNotFoundError or ValueError for a name that is no source and no folder,
            PermissionError for a data home that cannot be looked into.
    """
    if not isinstance(source, (str, os.PathLike)):
        quoted = f"write {str(source)!r} if a folder of that name is meant"
        raise ValueError(
            f"The data is {source!r}, no text: choose {', '.join(SOURCES)}, or {quoted}."
        )
    if source in ("", "auto"):
        here = home() if root is None else Path(root).expanduser()
        if here.exists() and not os.access(here, os.R_OK | os.X_OK):
            other = "allow reading it, or set DENSENET_HOME to another folder"
            raise PermissionError(f"The data home {here} cannot be looked into: {other}.")
        return "cifar10" if (here / "cifar-10-batches-py").is_dir() else "shapes"
    return source if source in SOURCES else str(_find_folder(source))


def load_images(source="auto", split="train", *, root=None, limit=None, seed=0):
    """Load one split of a source, ready for `Batches`.

    Args:   source: "cifar10", "cifar100", "shapes", "auto" (CIFAR-10 if it is on disk, else
            shapes), or the path of a folder that holds one subfolder of pictures for each class,
            inside train/ and test/ (or val/) or directly; then a fifth of every class is for
            testing. A warning says what was left out, converted, or is missing from test/.
            split: "train" or "test".  root: the folder that holds CIFAR, and in cache/ the decoded
            pictures of folders; None means `home()`.
            limit: take only so many pictures, as evenly from the classes as they allow.
            seed: chooses the pictures of `limit`, and the split of a folder that has none: load
            train and test with the same seed. The shapes are one dataset, whatever the seed.
    Raises: FileNotFoundError or ValueError, with what was found, where, and what to do.
    """
    if split not in SPLITS:
        hint = "take a validation set from train with split_validation"
        raise ValueError(f"There is no split {split!r}: choose 'train' or 'test' ({hint}).")
    root = home() if root is None else Path(root).expanduser()
    source = resolve(source, root)
    if source == "shapes":
        name, classes = "shapes", shapes.CLASSES
        splits = [tuple(map(torch.tensor, _draw_shapes(s))) for s in SPLITS]
    elif source in SOURCES:
        name, classes, splits = read_cifar(source, root)
    else:
        name, (classes, splits) = Path(source).name, read_folder(Path(source), root / "cache")
        if len(splits) == 1:
            splits = _split_fifth(*splits[0], seed, least=len(classes))
    images, labels = splits[SPLITS.index(split)]
    mean, std = channel_statistics(splits[0][0])
    image_set = ImageSet(images, labels, tuple(classes), mean, std, name, split)
    if limit is None:
        return image_set
    if limit < len(classes):
        few = f"limit={limit} is below the number of classes of {name}"
        raise ValueError(f"{few}: ask for at least {len(classes)} pictures, or None for all.")
    return image_set.subset(stratified(labels, seed)[:limit].sort().values)


def _find_folder(source):
    folder = Path(source).expanduser()
    check_name(folder)
    if folder.is_dir():
        return folder.resolve()
    if folder.exists():
        raise ValueError(f"{folder} is a file, not a folder of pictures: unpack it first.")
    near = difflib.get_close_matches(str(source).lower().replace("-", ""), SOURCES, 1)
    meant = f"did you mean {near[0]!r}? Choose" if near else "choose"
    raise FileNotFoundError(
        f"There is no source and no folder {str(source)!r} (looked in {Path.cwd()}): {meant} "
        f"{', '.join(SOURCES)}, or the path of a folder with one subfolder of pictures a class."
    )


def _split_fifth(images, labels, seed, least):
    """Split a folder that has no test/: a fifth of the pictures, with its mix of classes."""
    order, cut = stratified(labels, seed, proportional=True), max(len(labels) // 5, least)
    train, test = order[cut:].sort().values, order[:cut].sort().values
    return [(images[train], labels[train]), (images[test], labels[test])]


@cache  # drawn once, though train, test and the statistics all ask for it
def _draw_shapes(split):
    return shapes.draw(split, seed=0)
