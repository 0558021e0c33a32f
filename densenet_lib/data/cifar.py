"""CIFAR-10 and CIFAR-100 from disk. Nothing here touches the network; `download.py` does."""

import warnings
from pathlib import Path

import torch

from densenet_lib.data.images import SPLITS


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


def read_cifar(source, root):
    """Return (name, classes, splits) of CIFAR-10 or CIFAR-100 on disk, read by torchvision.

    Raises: FileNotFoundError that says what is missing or altered, and how to fetch it.
    """
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
