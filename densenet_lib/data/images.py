"""Pictures as tensors: an `ImageSet` holds them with their labels. Built in notebooks/01."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch.nn import functional as F

SIZE = 32  # pixels: every picture is SIZE x SIZE
SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Hold labelled pictures and what is needed to normalise them.

    Args: images: uint8 (N, 3, 32, 32); `halved` makes them smaller.
          labels: int64 (N,), numbers into `classes`.
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

    def __getitem__(self, number):
        """Return a picture as a network gets it, float32 (3, 32, 32), and its label."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (self.images[number].float() / 255 - mean) / std, self.labels[number]

    @cached_property
    def digest(self):
        """The SHA-256 of pictures and labels, which tells one dataset from another."""
        parts = (self.images, self.labels)
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()

    def subset(self, numbers):
        """Take the pictures with these numbers; mean and std stay those of the whole split."""
        return replace(self, images=self.images[numbers], labels=self.labels[numbers])

    def halved(self):
        """Make of each 2x2 pixels one, their mean; mean and std stay those of the whole pictures.

        Shape: uint8 (N, 3, H, W) -> uint8 (N, 3, H // 2, W // 2).
        """
        return replace(self, images=F.avg_pool2d(self.images.float(), 2).round().byte())


def split_validation(image_set, part=0.1, seed=0):
    """Split a training set in two, each with its mix of classes as nearly as whole pictures allow.

    Every class keeps a picture to train on; the validation set may lack the rarest ones.
    Args:    part: of validation, a share such as 0.1 or a number of pictures such as 5000.
    Returns: (train, validation), two ImageSets.
    Raises:  ValueError if either side would have fewer pictures than there are classes.
    """
    count = part if hasattr(part, "__index__") else round(part * len(image_set))
    least = len(image_set.classes)
    if not least <= count <= len(image_set) - least:
        sizes = f"{count} of {len(image_set)} pictures for validation"
        raise ValueError(f"Cannot take {sizes}: each side needs at least {least}, one a class.")
    order = stratified(image_set.labels, seed, proportional=True)
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


def stratified(labels, seed, *, proportional=False):
    """Order the picture numbers so that any first part of them has the classes evenly.

    With `proportional`, any first part has the mix of classes of the whole instead, and the last
    picture of every class comes at the very end.
    Shape: int64 (N,) -> int64 (N,), the numbers 0 to N - 1 in another order.
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(int(seed)))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()  # (classes,)
    first = counts.cumsum(0) - counts  # (classes,): where each class begins in by_class
    rank = torch.arange(len(labels)) - first[labels[by_class]]  # (N,): 0, 1, ... in each class
    # The shuffled classes are merged by key: the first picture of each, then the second of each ...
    # or, by rank / count, so that half of every class has come when half of all pictures have.
    key = rank
    if proportional:
        count = counts[labels[by_class]]  # (N,)
        key = torch.where(rank == count - 1, torch.inf, rank / count)
    return by_class[key.argsort(stable=True)]
