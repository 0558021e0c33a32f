"""Keep trained networks: one file with all that is needed to use them, or to go on training.

A checkpoint is a plain dictionary of numbers, texts and tensors, so it loads with
`weights_only=True` and can run no code. What it must hold stands in KEYS. Taught in notebooks/06.
"""

import errno
import hashlib
import io
import json
import os
import platform
import zipfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch

from densenet_lib.residual import make_network

FORMAT = 1  # raised by one whenever an older reader would misread
KEYS = {
    "format": "FORMAT, when it was written",
    "network": "the arguments of DenseNet or ResidualNet",
    "state_dict": "its weights and running statistics",
    "classes": "the names of the classes, in the order of the logits",
    "mean": "per channel, to normalise with",
    "std": "per channel, to normalise with",
    "data": "name, number of images and SHA-256 of what it was trained on",
    "recipe": "the fields of a Recipe",
    "epochs": "passes over the images that were asked for",
    "seed": "of the weights, the order and the augmentation",
    "machine": "versions, processor, processes and switches",
    "log": "one record an epoch",
    "test": "loss and accuracy on the test images, once all is done; else None",
    "resume": "optimizer, random state and records since the epoch began; None once all is done",
}
DIGEST = "sha256"  # of the weights, see digest_of; the first files of this format have none
ORIGIN = "started_from"  # None, or the file, digest, data and frozen part that it was trained from
RECORDED = Path(__file__).parent / "recorded"


def save_checkpoint(path, **content):
    """Write a checkpoint, all of it or nothing, whatever happens meanwhile; return it whole.

    Args:   content: a value for each of KEYS but "format"; ORIGIN too, if it has one.
    Raises: OSError, with the path, if it cannot be written; what was there before stays.
    """
    whole = {"format": FORMAT, **content}
    assert whole.keys() - {ORIGIN} == KEYS.keys(), whole.keys() ^ KEYS.keys()
    whole[DIGEST] = digest_of(content["state_dict"])
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    write_whole(path, buffer.getbuffer())
    return whole


def load_checkpoint(path):
    """Read a checkpoint as a dictionary with the keys of KEYS, its tensors on the CPU.

    Raises: FileNotFoundError; PermissionError; ValueError for a file that is damaged, foreign or
            too new. Not one flipped bit is overlooked: the archive has checksums of its parts.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}: give the path of a .pt file.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise type(error)(f"Cannot read {path} ({error.strerror}): ask for access to it.") from None
    try:
        damaged = zipfile.ZipFile(io.BytesIO(content)).testzip()
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        damaged = damaged or DIGEST in found and found[DIGEST] != digest_of(found["state_dict"])
    except Exception:  # a damaged archive can raise almost anything
        damaged = True
    if damaged:
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it is cut short, damaged, or holds more than "
            "numbers and texts; take another copy."
        )
    if not isinstance(found, dict) or "format" not in found:
        raise ValueError(
            f"{path} is not of this library (it does not say its format): give a checkpoint that "
            "`python -m densenet_lib train` wrote."
        )
    if found["format"] != FORMAT:
        raise ValueError(
            f"{path} has format {found['format']!r} and this version of the library reads "
            f"{FORMAT}: use the version that wrote it."
        )
    if missing := ", ".join(sorted(KEYS.keys() - found.keys())):
        raise ValueError(f"{path} lacks {missing}: take another copy.")
    return found


def digest_of(state_dict):
    """Return the SHA-256 of weights and their names, as a text."""
    digest = hashlib.sha256()
    for name, values in state_dict.items():
        digest.update(name.encode())
        digest.update(values.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def build_network(checkpoint):
    """Build the network of a checkpoint with its weights, in evaluation mode.

    Raises: ValueError if weights and network are not of one kind.
    """
    try:
        network = make_network(**checkpoint["network"])
        network.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"The weights of this checkpoint are not of the network that it names ({reason}): "
            "take another copy."
        ) from None
    return network.eval()


def adapt(checkpoint, classes):
    """Build the network of a checkpoint for these classes: with a fresh classifier, unless they are
    its own, names and order; then it is `build_network` in training mode.

    The features expect the checkpoint's own mean and std. Used in notebooks/15.
    Args:   classes: names.
    Raises: ValueError if weights and network are not of one kind.
    """
    network = build_network(checkpoint).train()
    if tuple(classes) != tuple(checkpoint["classes"]):
        fresh = make_network(**{**checkpoint["network"], "num_classes": len(classes)})
        network.classifier, network.arguments = fresh.classifier, fresh.arguments
    return network


def freeze(network, last):
    """Keep the features up to and including the part `last` as they are; return the network.

    Their weights take no gradient, and they are in evaluation mode, so that the running statistics
    of their norms stay and dropout is off. `training.train` leaves them so; `network.train()` does
    not. After the last part, "relu5", the classifier alone learns.
    Raises: ValueError, with the names that there are.
    """
    parts = dict(network.features.named_children())
    if last not in parts:
        raise ValueError(f"there is no part {last!r} to freeze: choose one of {', '.join(parts)}")
    for name, part in parts.items():
        part.requires_grad_(False).eval()
        if name == last:
            return network


def normalise(images, checkpoint):
    """Turn uint8 pictures (N, 3, H, W) into the floats that the checkpoint's network reads."""
    mean, std = (torch.tensor(checkpoint[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (images.float() / 255 - mean) / std


def provenance(device, **switches):
    """Return what numbers may depend on besides the seed: versions, processor, switches."""
    cuda = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else str(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),  # without importing it, which is slow
        "system": f"{platform.system()} {platform.machine()}",
        **switches,
    }


def recorded(name):
    """Return what is known of a run of ours on real photographs: a checkpoint without tensors.

    Its log and settings are in recorded/NAME.json; recorded/NAME.pt, where there is one, is the
    checkpoint itself; recorded/README.md says how they were made.
    Raises: FileNotFoundError, with the names that there are.
    """
    path = RECORDED / f"{name}.json"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in RECORDED.glob("*.json")))
        raise FileNotFoundError(f"There is no recorded run {name!r}: there are {names}.")
    return json.loads(path.read_text("utf-8"))


def without_tensors(checkpoint):
    """Return the part of a checkpoint that a person can read, for a JSON file."""
    return {key: value for key, value in checkpoint.items() if key not in ("state_dict", "resume")}


def write_whole(path, content):
    """Write bytes to a temporary name beside `path`, then rename: never half a file."""
    path = Path(path).resolve()  # a link stays, and what it leads to is written
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # the rename must not overtake the content
        os.replace(part, path)
    except OSError as error:
        raise OSError(
            f"Cannot write {path} ({error.strerror}): what was there before is untouched; make "
            "room there or choose another place, then give the same command again."
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()
