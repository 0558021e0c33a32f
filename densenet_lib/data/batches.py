"""An `ImageSet` in batches, normalised and augmented on the device. Built in notebooks/01."""

import math

import numpy as np
import torch
import torch.nn.functional as F

SHIFT = 4  # pixels: the largest shift of an augmented picture, in each direction
DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name="auto"):
    """Return the device of this name; "auto" is a CUDA GPU if there is one, else the CPU.

    Raises: ValueError if the name is not in DEVICES, or PyTorch finds no such device.
    """
    if name not in DEVICES:
        raise ValueError(f"The device is {name!r}: choose one of {', '.join(DEVICES)}.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    elif name != "cpu" and not getattr(torch, name).is_available():
        raise ValueError(f"The device is {name!r}, but PyTorch finds none: choose auto or cpu.")
    return torch.device(name)


class Batches:
    """Iterate over an ImageSet in normalised float batches that are made on the device.

    The pictures lie on the device as bytes; flip and shift are index arithmetic on a whole batch.
    Order and augmentation come from (seed, epoch) on the CPU: the same on every device.

    Args:   batch_size: pictures; the last batch may be smaller.  augment: flip half of the
            pictures left to right, shift each by up to 4 pixels both ways; the border that comes
            into view is 0 after normalising, the channel mean (as in the authors' code).
            cutout: hide in each augmented picture a square of so many pixels a side, with its
            centre anywhere in the picture; what is hidden is 0 too.
            shuffle: a new order every epoch.  seed: 0 or more.  device: where the batches are.
            plain_epochs: so many passes, the first ones, are not augmented.
            share: (number, of how many), the part of every batch that this process takes when
            several train together; together they take each picture once.
    Yields: images float32 (B, 3, 32, 32), labels int64 (B,).
    Raises: ValueError if there is no picture, batch_size is below 1, or a share is empty or none.

    `epoch` is the number of the next pass, from 0; set it to resume. A pass counts when its last
    batch is given: one that is abandoned before comes again, the same. `weight` is the size of this
    process's share of the batch just given, against an equal share: its loss counts so much.
    """

    def __init__(
        self,
        image_set,
        batch_size,
        *,
        augment=False,
        cutout=0,
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
        if not 0 <= share[0] < share[1]:
            raise ValueError(
                f"share={share} is none: (0, n) is the first of n, (n - 1, n) the last."
            )
        last = len(image_set) % batch_size or batch_size  # pictures, the smallest batch
        if last < share[1]:
            raise ValueError(
                f"{share[1]} processes cannot share a batch of {last} pictures, "
                f"as {len(image_set)} in batches of {batch_size} leave: use another batch size."
            )
        self.image_set, self.batch_size, self.seed, self.epoch = image_set, batch_size, seed, 0
        self.plain_epochs, self.share, self.weight = plain_epochs, share, 1.0
        self.augment, self.cutout, self.shuffle = augment, cutout, shuffle
        self.device = torch.device(device)
        self._images = image_set.images.to(device)
        self._labels = image_set.labels.to(device)
        self._mean = torch.tensor(image_set.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(image_set.std, device=device).view(1, 3, 1, 1)

    def __len__(self):
        return math.ceil(len(self.image_set) / self.batch_size)

    def __iter__(self):
        epoch, n, generator = self.epoch, len(self.image_set), torch.Generator()
        # torch's CPU generator looks at 32 bits of its seed only, so mix the two numbers well.
        generator.manual_seed(int(np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0]))
        order = torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)
        flip = torch.randint(2, (n, 1), generator=generator).bool()
        shift = torch.randint(2 * SHIFT + 1, (2, n, 1), generator=generator)  # down, right
        size = self.image_set.images.shape[2:]
        centre = [torch.randint(pixels, (n, 1), generator=generator) for pixels in size]
        order, flip, shift, *centre = (t.to(self.device) for t in (order, flip, shift, *centre))
        for start in range(0, n, self.batch_size):
            part = slice(start + self.share[0], min(start + self.batch_size, n), self.share[1])
            images = self._images[order[part]].float().div_(255)
            images = images.sub_(self._mean).div_(self._std)  # (B, 3, H, W)
            if self.augment and epoch >= self.plain_epochs:
                images = flip_and_shift(images, flip[part], *shift[:, part])
                if self.cutout:
                    images = cut_out(images, self.cutout, *(place[part] for place in centre))
            if start + self.batch_size >= n:
                self.epoch = epoch + 1
            whole = min(self.batch_size, n - start)
            self.weight = len(images) * self.share[1] / whole
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


def cut_out(images, side, row, column):
    """Set a square of `side` x `side` pixels around (row, column) to 0, what of it is inside.

    Shape:  images (B, C, H, W), row and column (B, 1) -> (B, C, H, W).
    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
            Cutout", 2017.
    """
    height, width = (torch.arange(size, device=images.device) for size in images.shape[2:])
    rows, columns = (
        (0 <= place + side // 2) & (place + side // 2 < side)
        for place in (height - row, width - column)  # (B, H) and (B, W)
    )
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)
