"""Folders of pictures as arrays: found, decoded by many threads, kept for the next start.

Bad folders and files get one sentence: what was found, where, and what to do. Used by sources.py.
"""

import hashlib
import json
import os
import warnings
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from densenet_lib.data.images import SIZE, SPLITS

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def read_folder(folder, cache):
    """Read a folder that holds a subfolder of pictures for each class, or train/ and test/ of them.

    Args:    folder: its absolute path.  cache: the folder in which decoded pictures are kept.
    Returns: the class names, sorted, and one part or two, each (images uint8 (N, 3, 32, 32),
             labels int64 (N,)).
    Raises:  ValueError for a missing half, class or picture, and for pictures that cannot be read.
    """
    present = [part for part in SPLITS if (folder / part).is_dir()]
    if len(present) == 1:
        rest = f"make both, or name {folder / present[0]} to have it split"
        raise ValueError(f"{folder} has {present[0]}/ but not both train/ and test/: {rest}.")
    parts = [_scan(folder / part) for part in present or [""]]
    classes = list(parts[0])
    if len(classes) == 1:
        raise ValueError(f"{folder} has one class only ({classes[0]}): add a folder for another.")
    if unknown := ", ".join(c for c in parts[-1] if c not in classes):
        raise ValueError(f"{folder} has {unknown} in test/, not in train/: name classes alike.")
    if not present and (alone := [c for c in classes if len(parts[0][c]) == 1]):
        raise ValueError(f"{folder} has one picture only of {alone[0]}: a split takes two or more.")
    entries = [entry for part in parts for found in part.values() for entry in found]
    files = [(e.path, e.stat().st_size, e.stat().st_mtime_ns) for e in entries]
    images = _decode(folder, files, cache)
    labels = [classes.index(c) for part in parts for c, found in part.items() for _ in found]
    counts = [sum(map(len, part.values())) for part in parts]
    return classes, list(zip(images.split(counts), torch.tensor(labels).split(counts), strict=True))


def _scan(folder):
    """List the pictures of each class folder: {class: [directory entries]}, by name."""

    def listed(path, wanted):  # but for hidden files, and what unpacking on a Mac leaves
        found = (e for e in os.scandir(path) if not e.name.startswith((".", "__MACOSX")))
        return sorted(filter(wanted, found), key=lambda entry: entry.name)

    def is_picture(entry):
        return entry.name.lower().endswith(ENDINGS)

    found = {c.name: listed(c, is_picture) for c in listed(folder, os.DirEntry.is_dir)}
    if not found:
        loose = f"{len(listed(folder, is_picture))} pictures lie directly in it"
        raise ValueError(f"{folder} has no class folders ({loose}): give each class a subfolder.")
    if empty := [c for c in found if not found[c]]:
        fill = f"put some there ({' '.join(ENDINGS)}), or remove the folder"
        raise ValueError(f"The class folder {folder / empty[0]} holds no pictures: {fill}.")
    return found


def _decode(folder, files, cache):
    """Decode files to uint8 (N, 3, 32, 32), or take them from what was kept in the cache last time.

    A folder has one file there, which counts only if all names, sizes and times are unchanged.
    """
    listing = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    place = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    store = cache / f"{folder.name}-{place}.npz"
    try:
        with open(store, "rb") as file, np.load(file) as kept:
            if kept["listing"] == listing:
                return torch.from_numpy(kept["images"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # there is none yet, or it is damaged, which is the same
    images = np.empty((len(files), 3, SIZE, SIZE), np.uint8)
    kinds, unreadable = Counter(), []

    def read(numbers):
        for i in numbers:
            try:
                images[i], kind = read_picture(files[i][0])
                yield kind
            except Exception as error:  # pillow's decoders raise many kinds for a damaged file
                unreadable.append(f"{files[i][0]} ({error})")

    parts = [range(i, min(i + 256, len(files))) for i in range(0, len(files), 256)]
    bar = tqdm(total=len(files), desc=f"Reading {folder.name}", delay=2, disable=None, leave=False)
    with ThreadPoolExecutor() as pool, bar:
        for found in pool.map(lambda part: list(read(part)), parts):
            kinds.update(found)
            bar.update(len(found))
    if unreadable:
        count = f"{len(unreadable)} of {len(files)} pictures in {folder} cannot be read"
        raise ValueError(f"{count}: repair or remove them; the first is {min(unreadable)}.")
    if converted := ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()) if kind != "RGB"):
        which = f"{converted} of {len(files)} pictures in {folder}"
        warnings.warn(f"Converted to RGB, on white where transparent: {which}.", stacklevel=4)
    part = f"{store}.{os.getpid()}.part"
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            np.savez(file, images=images, listing=listing)
        os.replace(part, store)
    except OSError as error:
        again = f"so the next start decodes {folder} again"
        warnings.warn(f"Cannot keep {store} ({error.strerror}), {again}.", stacklevel=4)
    finally:
        with suppress(OSError):
            os.unlink(part)
    return torch.from_numpy(images)


def read_picture(path):
    """Read the middle square of a picture of any size: uint8 (3, 32, 32), and the kind it was."""
    with Image.open(path) as picture:
        kind = {"1": "black-and-white", "L": "grey", "P": "palette"}.get(picture.mode, picture.mode)
        picture.draft(None, (4 * SIZE, 4 * SIZE))  # lets a large JPEG be decoded small, and fast
        ImageOps.exif_transpose(picture, in_place=True)  # a phone notes how it was held
        if picture.mode.startswith("I;16"):  # pillow would cut 16 bits off at white, not scale them
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("RGB")
        if picture.size != (SIZE, SIZE):
            picture = ImageOps.fit(picture, (SIZE, SIZE))  # crops the middle, resizes smoothly
        return np.asarray(picture).transpose(2, 0, 1), kind
