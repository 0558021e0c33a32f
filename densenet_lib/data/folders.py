"""Folders of pictures as arrays: found, decoded by many threads, kept for the next start.

Bad folders and files get one sentence: what was found, where, and what to do. Used by sources.py.
"""

import hashlib
import json
import os
import unicodedata
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from densenet_lib.data.images import SIZE

TRAIN, TEST = ("train", "training"), ("test", "testing")  # names of the folders, in any case
VALIDATION = ("val", "valid", "validation")  # serves for testing where there is none for that
LEFT_BEHIND = (".", "__MACOSX", "@eaDir", "@Recycle", "#recycle", "Thumbs.db", "desktop.ini")
NO_DECODER = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # pillow knows little but their names
KINDS = {"1": "black-and-white", "L": "grey", "P": "palette", "I": "32-bit", "F": "float"}


def read_folder(folder, cache):
    """Read a folder that holds a subfolder of pictures for each class, or train/ and test/ of them.

    One warning tells what was left out or converted, and which classes the test part lacks.
    Args:    folder: its absolute path.  cache: the folder in which decoded pictures are kept.
    Returns: the class names, sorted, and one part or two, each (images uint8 (N, 3, 32, 32),
             labels int64 (N,)).
    Raises:  ValueError for a missing half, class or picture, and for pictures that cannot be read.
    """
    notes = []
    folder, places = _find_parts(folder, notes)
    parts = [_scan(place, notes, needed=place is places[0]) for place in places]
    classes = list(parts[0])
    if len(classes) == 1:
        raise ValueError(f"{folder} has one class only ({classes[0]}): add a folder for another.")
    if unknown := ", ".join(c for c, files in parts[-1].items() if files and c not in classes):
        there, here = places[-1].name, places[0].name
        raise ValueError(f"{folder} has {unknown} in {there}/, not in {here}/: name classes alike.")
    if len(parts) == 1 and (alone := [c for c in classes if len(parts[0][c]) == 1]):
        raise ValueError(f"{folder} has one picture only of {alone[0]}: a split takes two or more.")
    if absent := ", ".join(c for c in classes if not parts[-1].get(c)):
        notes.append(f"no picture of {absent} in {places[-1].name}/, so nothing tests that")
    found = [[(path, i) for i, c in enumerate(classes) for path in p.get(c, ())] for p in parts]
    if not found[-1]:
        raise ValueError(f"{places[-1]} holds no pictures that can be read: put some there.")
    paths, labels = zip(*sum(found, []), strict=True)
    images, kinds = _decode(folder, paths, cache)
    if converted := ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()) if kind != "RGB"):
        which = f"{converted} of {len(paths)} pictures"
        notes.append(f"converted to RGB, on white where transparent: {which}")
    if notes:
        warnings.warn(f"In {folder}: {'; '.join(notes)}.", stacklevel=3)
    counts = [len(part) for part in found]
    return classes, list(zip(images.split(counts), torch.tensor(labels).split(counts), strict=True))


def check_name(path):
    """Refuse a name in other bytes than UTF-8, which no console, notebook or JSON could hold."""
    if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
        raise ValueError(f"The folder {ascii(str(path))} has a name that is not UTF-8: rename it.")


@cache
def endings():
    """Return the endings of the files that pillow can read here, with the plugins that it has."""
    known = Image.registered_extensions().items()
    return {e for e, name in known if name in Image.OPEN and name not in NO_DECODER}


def _list(folder):
    """List the folders in a folder, and its files, by name; but for what is hidden."""
    found = (e for e in os.scandir(folder) if not e.name.startswith(LEFT_BEHIND))
    found = sorted(found, key=lambda entry: entry.name)
    return [e for e in found if e.is_dir()], [e for e in found if not e.is_dir()]


def _pictures(files):
    return [e.path for e in files if os.path.splitext(e.name)[1].lower() in endings()]


def _find_parts(folder, notes):
    """Find where the classes are: (the folder or one within, [its train/ and test/, or itself])."""
    folders, files = _list(folder)
    while len(folders) == 1 and not _pictures(files) and (inner := _list(folders[0]))[0]:
        folder, (folders, files) = folder / folders[0].name, inner  # as in flowers/flowers/rose
        notes.append(f"the only folder, {folder.name}/, is taken for the whole")

    def named(names):
        return [folder / entry.name for entry in folders if entry.name.lower() in names]

    train, test = named(TRAIN), named(TEST)
    test = test or (train and named(VALIDATION))
    halves = train + test
    if len(halves) < len(folders) and not any(_list(half)[0] for half in halves):
        return folder, [folder]  # these hold pictures only, so they are classes of such names
    if len(train) > 1 or len(test) > 1:
        several = " and ".join(f"{place.name}/" for place in (train if len(train) > 1 else test))
        raise ValueError(f"{folder} has {several}, which mean the same: rename one.")
    if train and test:
        if test[0].name.lower() in VALIDATION:
            notes.append(f"{test[0].name}/ serves for testing")
        if rest := ", ".join(e.name for e in folders if folder / e.name not in halves):
            notes.append(f"left out beside {train[0].name}/ and {test[0].name}/: {rest}")
        return folder, halves
    if halves:
        rest = f"make both, or name {halves[0]} to have it split"
        raise ValueError(f"{folder} has {halves[0].name}/ but not both train/ and test/: {rest}.")
    return folder, [folder]


def _scan(folder, notes, needed):
    """List the pictures of each class folder, those in its subfolders too: {class: [paths]}.

    A class folder without pictures is refused if they are `needed`.
    """
    places, loose = _list(folder)
    if not places:
        loose = f"{len(_pictures(loose))} pictures lie directly in it"
        raise ValueError(f"{folder} has no class folders ({loose}): give each class a subfolder.")
    found, left = {}, []
    for place in places:
        check_name(place.path)
        # A Mac writes é in two signs, others in one.
        name = unicodedata.normalize("NFC", place.name)
        if name in found:
            raise ValueError(f"{folder} has two folders {name}, in two Unicode forms: rename one.")
        if same := {e.name for e in _list(place)[0]} & {e.name for e in places}:
            which = f"{place.path} holds folders named like classes ({', '.join(sorted(same))})"
            raise ValueError(f"{which}: name that folder instead, or move it out of {folder}.")
        files = list(_walk(place))
        found[name] = _pictures(files)
        if needed and not found[name]:
            kinds = f"files of other kinds: {len(files)}" if files else "nothing else"
            advice = f"{kinds}): put some there, or move the folder elsewhere"
            raise ValueError(f"The class folder {place.path} holds no pictures ({advice}.")
        if missing := len(files) - len(found[name]):
            kinds = {os.path.splitext(e.name)[1].lower() or "no ending" for e in files} - endings()
            left.append(f"{missing} of {len(files)} files in {name} ({', '.join(sorted(kinds))})")
    if loose := _pictures(loose):
        left.append(f"{len(loose)} pictures beside the class folders")
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        notes.append(f"left out of {folder.name}/: {', '.join(left[:3])}{more}")
    return dict(sorted(found.items()))


def _walk(folder, above=()):
    """Yield the files in a folder and its subfolders, but follow no link that leads back up."""
    above = (*above, os.path.realpath(folder))
    folders, files = _list(folder)
    yield from files
    for place in folders:
        real = Path(os.path.realpath(place))
        if not any(Path(folder).is_relative_to(real) for folder in above):
            yield from _walk(place, above)


def _stamp(path):
    """Return what tells whether a file was changed; of a link that leads nowhere, its name."""
    try:
        found = os.stat(path)
    except OSError:
        return (path,)
    return path, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _decode(folder, paths, cache):
    """Decode files, or take them from the cache: uint8 (N, 3, 32, 32), and {kind: how many}.

    A folder has one file there. It counts if all names, sizes and times are unchanged (that of the
    last change too, which no program sets back) and if its own checksum is right.
    """
    stats = [_stamp(path) for path in paths]
    place = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    store = cache / f"{folder.name}-{place}.npz"

    def checksum(images, kinds):
        digest = hashlib.sha256(json.dumps([SIZE, stats, kinds, images.shape]).encode())
        digest.update(images)
        return digest.hexdigest()

    with suppress(Exception):  # there is none yet, or it is damaged, in whichever way
        with open(store, "rb") as file, np.load(file) as kept:
            images, kinds = kept["images"], json.loads(str(kept["kinds"]))
            if kept["checksum"] == checksum(images, kinds):
                return torch.from_numpy(images), kinds
    images = np.empty((len(paths), 3, SIZE, SIZE), np.uint8)
    kinds, unreadable = Counter(), []

    def read(numbers):
        for i in numbers:
            try:
                images[i], kind = read_picture(paths[i])
                yield kind
            except (OSError, ValueError) as error:
                unreadable.append(f"{paths[i]} ({getattr(error, 'strerror', None) or error})")

    parts = [range(i, min(i + 256, len(paths))) for i in range(0, len(paths), 256)]
    bar = tqdm(total=len(paths), desc=f"Reading {folder.name}", delay=2, disable=None, leave=False)
    with ThreadPoolExecutor() as pool, bar:
        for found in pool.map(lambda part: list(read(part)), parts):
            kinds.update(found)
            bar.update(len(found))
    if unreadable:
        count = f"{len(unreadable)} of {len(paths)} pictures in {folder} cannot be read"
        raise ValueError(
            f"{count}: repair them or move them elsewhere; the first is {min(unreadable)}."
        )
    part = f"{store}.{os.getpid()}.part"
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            sums = {"kinds": json.dumps(kinds), "checksum": checksum(images, kinds)}
            np.savez(file, images=images, **sums)
        os.replace(part, store)
    except OSError as error:
        again = f"so the next start decodes {folder} again"
        warnings.warn(f"Cannot keep {store} ({error.strerror}), {again}.", stacklevel=4)
    finally:
        with suppress(OSError):
            os.unlink(part)
    return torch.from_numpy(images), kinds


def read_picture(path):
    """Read the middle square of a picture of any size: uint8 (3, 32, 32), and the kind it was.

    Raises: OSError if the file cannot be opened, ValueError if no picture can be read from it.
    """
    try:
        with Image.open(path) as picture:
            kind = KINDS.get(picture.mode, picture.mode)
            # Lets a large JPEG be decoded small, and fast.
            picture.draft(None, (4 * SIZE, 4 * SIZE))
            ImageOps.exif_transpose(picture, in_place=True)  # a phone notes how it was held
            picture.load()
    except Exception as error:  # pillow's decoders raise many kinds for a damaged file
        if isinstance(error, OSError) and error.strerror:
            raise
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error!r})"
        if Path(path).suffix.lower() in (".heic", ".heif"):
            reason = ", or one in Apple's format HEIC: export it as JPEG"
        raise ValueError(f"it is no picture, or a damaged one{reason}") from error
    if picture.mode.startswith(("I", "F")):
        hidden = np.asarray(picture) == picture.info.get("transparency", -1)
        picture = _to_bytes(picture)
        picture.paste(255, mask=Image.fromarray(hidden))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("RGB")
    if picture.size != (SIZE, SIZE):
        picture = ImageOps.fit(picture, (SIZE, SIZE))  # crops the middle, resizes smoothly
    return np.asarray(picture).transpose(2, 0, 1), kind


def _to_bytes(picture):
    """Scale a picture of 16 or 32 bits, or of floats, to bytes; pillow would cut it off at 255."""
    values = np.asarray(picture)
    low, high = values.min(), values.max()  # nan if one is
    if picture.mode == "F":
        white = 1 if high <= 1 else 255
    else:
        white = 255 if picture.mode == "I" and high <= 255 else 65535
    dark = white == 65535 and 0 < high < 4096  # 12 bits in 16, more likely than so dark a picture
    if dark or not 0 <= low <= high <= white:
        raise ValueError(f"its values, {low:g} to {high:g}, leave open what is white: use 8 bits")
    bytes_ = values >> 8 if white == 65535 else np.rint(values * (255 / white))
    return Image.fromarray(bytes_.astype(np.uint8))
