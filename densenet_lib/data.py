"""Pictures as tensors: every source becomes an `ImageSet`, and `Batches` feeds it to a network.

Four kinds of source, one call: CIFAR-10 and CIFAR-100 from disk, the embedded shapes, and any
folder of pictures. Nothing here touches the network; `download.py` does. Built in notebooks/01.
"""

import difflib
import hashlib
import math
import os
import warnings
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from densenet_lib import shapes
from densenet_lib.folders import read_folder

SHIFT = 4  # pixels: the largest shift of an augmented picture, in each direction
SOURCES = ("auto", "cifar10", "cifar100", "shapes")
SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Hold labelled pictures and what is needed to normalise them.

    Args: images: uint8 (N, 3, 32, 32).  labels: int64 (N,), numbers into `classes`.
          mean, std: per channel, over all pixels of the TRAINING split, in units of 0..1.
          name: of the source, for captions.  split: "train", "validation" or "test".
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    name: str
    split: str

    def __len__(self):
        return len(self.labels)

    def __repr__(self):
        mean, std = (", ".join(f"{v:.4f}" for v in values) for values in (self.mean, self.std))
        size = f"{len(self):,} pictures, {len(self.classes)} classes"
        return f"{self.name} {self.split}: {size}, mean ({mean}), std ({std})"

    @cached_property
    def digest(self):
        """The SHA-256 of pictures and labels, which tells one dataset from another."""
        parts = (self.images, self.labels)
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()

    def subset(self, numbers):
        """Take the pictures with these numbers; mean and std stay those of the whole split."""
        return replace(self, images=self.images[numbers], labels=self.labels[numbers])


def home():
    """Return the folder for datasets: DENSENET_HOME, else data/ beside the library."""
    default = Path(__file__).resolve().parent.parent / "data"
    return Path(os.environ.get("DENSENET_HOME") or default).expanduser()


def resolve(source="auto", root=None):
    """Return what `source` means here: "auto" is CIFAR-10 if it is on disk, else the shapes.

    Raises: FileNotFoundError or ValueError for a name that is no source and no folder.
    """
    if source == "auto":
        here = home() if root is None else Path(root).expanduser()
        return "cifar10" if (here / "cifar-10-batches-py").is_dir() else "shapes"
    return source if source in SOURCES else str(_find_folder(source))


def load_images(source="auto", split="train", *, root=None, limit=None, seed=0):
    """Load one split of a source, ready for `Batches`.

    Args:   source: "cifar10", "cifar100", "shapes", "auto" (CIFAR-10 if it is on disk, else
            shapes), or the path of a folder that holds one subfolder of pictures for each class,
            inside train/ and test/ or directly; then a fifth of every class becomes the test split.
            split: "train" or "test".  root: the folder that holds CIFAR; None means `home()`.
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
        name, classes, splits = _read_cifar(source, root)
    else:
        name, (classes, splits) = Path(source).name, read_folder(Path(source), home() / "cache")
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
    return image_set.subset(_stratified(labels, seed)[:limit].sort().values)


def split_validation(image_set, part=0.1, seed=0):
    """Split a training set in two, both with its mix of classes: (train, validation).

    Args:   part: of validation, a share such as 0.1 or a number of pictures such as 5000.
    Raises: ValueError if either side would have fewer pictures than there are classes.
    """
    count = round(part * len(image_set)) if isinstance(part, float) else part
    least = len(image_set.classes)
    if not least <= count <= len(image_set) - least:
        sizes = f"{count} of {len(image_set)} pictures for validation"
        raise ValueError(f"Cannot take {sizes}: each side needs at least {least}, one a class.")
    order = _stratified(image_set.labels, seed, proportional=True)
    validation, train = (part.sort().values for part in (order[:count], order[count:]))
    return image_set.subset(train), replace(image_set.subset(validation), split="validation")


def channel_statistics(images):
    """Compute mean and standard deviation of each channel over all pixels, in units of 0..1.

    Counting how often each of the 256 values occurs keeps the sums in exact integers.
    Shape: uint8 (N, 3, H, W) -> two tuples of 3 floats.
    """
    mean, std = [], []
    for channel in range(3):
        counts = torch.bincount(images[:, channel].reshape(-1), minlength=256).tolist()
        n, total = sum(counts), sum(v * c for v, c in enumerate(counts))
        squares = sum(v * v * c for v, c in enumerate(counts))
        deviation = (n * squares - total**2) ** 0.5 / n
        mean.append(total / n / 255)
        std.append(max(deviation, 1) / 255)  # at least one grey level: it will be divided by
    return tuple(mean), tuple(std)


class Batches:
    """Iterate over an ImageSet in normalised float batches that are made on the device.

    The pictures lie on the device as bytes; flip and shift are index arithmetic on a whole batch.
    Order and augmentation come from (seed, epoch) on the CPU: the same on every device.

    Args:   batch_size: pictures; the last batch may be smaller.  augment: flip half of the
            pictures left to right, shift each by up to 4 pixels both ways; the border that comes
            into view is 0 after normalising, the channel mean (as in the authors' code).
            shuffle: a new order every epoch.  seed: 0 or more.  device: where the batches are.
            plain_epochs: so many passes, the first ones, are not augmented.
            share: (number, of how many), the part of every batch that this process takes when
            several train together; together they take each picture once.
    Yields: images float32 (B, 3, 32, 32), labels int64 (B,).
    Raises: ValueError if there is no picture, batch_size is below 1, or a share would be empty.

    `epoch` is the number of the next pass, from 0; set it to resume.
    """

    def __init__(
        self,
        image_set,
        batch_size,
        *,
        augment=False,
        shuffle=False,
        seed=0,
        device="cpu",
        plain_epochs=0,
        share=(0, 1),
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} makes no batches: use 1 or more.")
        if len(image_set) == 0:
            raise ValueError(f"There is no picture in {image_set}: load more, or check the subset.")
        last = len(image_set) % batch_size or batch_size
        if min(batch_size, last) < share[1]:
            raise ValueError(
                f"{share[1]} processes cannot share a batch of {min(batch_size, last)} pictures, "
                f"as {len(image_set)} in batches of {batch_size} leave: use another batch size."
            )
        self.image_set, self.batch_size, self.seed, self.epoch = image_set, batch_size, seed, 0
        self.plain_epochs, self.share = plain_epochs, share
        self.augment, self.shuffle, self.device = augment, shuffle, torch.device(device)
        self._images = image_set.images.to(device)
        self._labels = image_set.labels.to(device)
        self._mean = torch.tensor(image_set.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(image_set.std, device=device).view(1, 3, 1, 1)

    def __len__(self):
        return math.ceil(len(self.image_set) / self.batch_size)

    def __iter__(self):
        self.epoch += 1
        return self._run(self.epoch - 1)

    def _run(self, epoch):
        n, generator = len(self.image_set), torch.Generator()
        # torch's CPU generator looks at 32 bits of its seed only, so mix the two numbers well.
        generator.manual_seed(int(np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0]))
        order = torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)
        flip = torch.randint(2, (n, 1), generator=generator).bool()
        shift = torch.randint(2 * SHIFT + 1, (2, n, 1), generator=generator)  # down, right
        order, flip, shift = (t.to(self.device) for t in (order, flip, shift))
        for start in range(0, n, self.batch_size):
            part = slice(start + self.share[0], min(start + self.batch_size, n), self.share[1])
            images = self._images[order[part]].float().div_(255)
            images = images.sub_(self._mean).div_(self._std)  # (B, 3, H, W)
            if self.augment and epoch >= self.plain_epochs:
                images = flip_and_shift(images, flip[part], *shift[:, part])
            yield images, self._labels[order[part]]


def flip_and_shift(images, flip, down, right):
    """Cut an H x W window at (down, right) out of each padded picture, mirrored where `flip`."""
    B, C, H, W = images.shape
    padded = F.pad(images, [SHIFT] * 4).flatten(2)  # (B, C, (H + 8) * (W + 8))
    x = torch.arange(W, device=images.device)
    columns = torch.where(flip, W - 1 - x, x) + right  # (B, W)
    rows = torch.arange(H, device=images.device) + down  # (B, H)
    pixels = rows[:, :, None] * (W + 2 * SHIFT) + columns[:, None, :]  # (B, H, W)
    return padded.gather(2, pixels.view(B, 1, H * W).expand(-1, C, -1)).view(B, C, H, W)


def _stratified(labels, seed, *, proportional=False):
    """Order the picture numbers so that any first part of them has the classes evenly.

    With `proportional`, any first part has the mix of classes of the whole instead.
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]  # within class
    key = rank / counts[labels[by_class]] if proportional else rank
    return by_class[key.argsort(stable=True)]


def _split_fifth(images, labels, seed, least):
    """Split a folder that has no test/: a fifth of the pictures, with its mix of classes."""
    order, cut = _stratified(labels, seed, proportional=True), max(len(labels) // 5, least)
    train, test = order[cut:].sort().values, order[:cut].sort().values
    return [(images[train], labels[train]), (images[test], labels[test])]


@cache  # drawn once, though train, test and the statistics all ask for it
def _draw_shapes(split):
    return shapes.draw(split, seed=0)


def damaged_files(dataset, root):
    """List the files of a torchvision CIFAR dataset that are missing or altered under `root`."""
    from torchvision.datasets.utils import check_integrity

    folder, meta = Path(root) / dataset.base_folder, dataset.meta
    files = [*dataset.train_list, *dataset.test_list, (meta["filename"], meta["md5"])]
    return [
        f"{name} ({'altered' if (folder / name).exists() else 'missing'})"
        for name, md5 in files
        if not check_integrity(folder / name, md5)
    ]


def _read_cifar(source, root):
    from torchvision import datasets  # slow to import, so only where it is needed

    dataset, name = getattr(datasets, source.upper()), source.replace("cifar", "CIFAR-")
    try:
        with warnings.catch_warnings():  # numpy warns of these old pickles: torchvision issue 9340
            warnings.simplefilter("ignore")
            splits = [dataset(root, train=split == "train") for split in SPLITS]
    except RuntimeError as error:
        folder = root / dataset.base_folder
        found = ", ".join(damaged_files(dataset, root)) if folder.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"{name} is not whole in {folder} ({found}): "
            f"fetch it with `python -m densenet_lib data --source {source}`, "
            f'adding `--root "{root}"` if that is not your DENSENET_HOME.'
        ) from error
    # torchvision turned the file's (N, 3, 32, 32) into (N, 32, 32, 3); this turns it back.
    images = [torch.from_numpy(s.data.transpose(0, 3, 1, 2)).contiguous() for s in splits]
    labels = [torch.tensor(s.targets) for s in splits]
    return name, splits[0].classes, list(zip(images, labels, strict=True))


def _find_folder(source):
    folder = Path(source).expanduser()
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
