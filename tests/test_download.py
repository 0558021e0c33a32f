import contextlib
import hashlib
import http.server
import io
import json
import pickle
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
import torch
from torchvision import datasets

from densenet_lib.__main__ import main
from densenet_lib.data import download, load_images
from densenet_lib.data.download import DownloadError, fetch_cifar

# A small archive in CIFAR-10's format


def old_pickle(content):
    """Pickle as Python 2 did for the real files: protocol 2, an integer where a flag is meant."""
    return pickle.dumps(content, 2).replace(b"\x89\x88\x87", b"K\x00K\x01\x87")


def tar(files):
    """Pack {path: bytes} as a .tar.gz; the paths may be malicious."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def md5(content):
    return hashlib.md5(content).hexdigest()


class Tiny:
    """CIFAR-10 with 200 train and 20 test pictures: its files, its archive, their checksums."""

    def __init__(self):
        rng = np.random.default_rng(0)
        names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
        sizes = [40] * 5 + [20]
        self.images = [rng.integers(0, 256, (n, 3072), np.uint8) for n in sizes]
        self.labels = [rng.permutation(np.arange(n) % 10).tolist() for n in sizes]
        self.classes = [f"kind{i}" for i in range(10)]
        self.files = {
            name: old_pickle({"data": images, "labels": labels})
            for name, images, labels in zip(names, self.images, self.labels, strict=True)
        }
        self.files["batches.meta"] = old_pickle({"label_names": self.classes})
        self.archive = tar({f"cifar-10-batches-py/{n}": c for n, c in self.files.items()})

    def constants(self, archive=None):
        """Give the attributes that make torchvision's CIFAR10 expect these files."""
        listed = [[name, md5(content)] for name, content in self.files.items()]
        return {
            "train_list": listed[:5],
            "test_list": listed[5:6],
            "meta": {"filename": "batches.meta", "key": "label_names", "md5": listed[6][1]},
            "tgz_md5": md5(self.archive if archive is None else archive),
        }


@pytest.fixture(scope="module")
def tiny():
    return Tiny()


# A server that misbehaves on request


class Server(http.server.ThreadingHTTPServer):
    """Serve `content` at every address; the first part of the path says how.

    /whole  properly, with ranges       /plain  properly, without ranges
    /drop   half of what is asked for, then the line goes dead, for as many times as `drops` says
    /short  half, always                /hold   half, then the rest once `go` is set
    /wrong  other bytes                 /none   404
    /mute   not a byte until `go` is set
    /portal a page that asks for a login, whatever is asked for
    /commas properly, with a comma in Content-Length
    """

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.asked, self.drops = content, [], 1
        self.go, self.half = threading.Event(), threading.Event()

    def handle_error(self, request, client_address):
        pass  # the client hung up, as some tests mean it to

    def url(self, how):
        return f"http://127.0.0.1:{self.server_port}/{how}/cifar-10-python.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, how, wanted = self.server, self.path.split("/")[1], self.headers["Range"]
        server.asked.append((how, wanted))
        content = server.content if how != "wrong" else b"x" * len(server.content)
        if how == "none":
            return self.send_error(404)
        if how == "mute":
            server.go.wait(60)
        if how == "portal":
            content, wanted = b"<html>Please log in" * 20, None
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and how != "plain" else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        length = f"{len(content) - start:{',' if how == 'commas' else ''}}"
        self.send_header("Content-Length", length)
        self.end_headers()
        middle = (start + len(content)) // 2
        self.wfile.write(content[start:middle])
        self.wfile.flush()
        if how == "hold":
            server.half.set()
            server.go.wait(60)
        if how == "short" or (how == "drop" and server.drops > 0):
            server.drops -= 1
            return None  # closes the connection
        self.wfile.write(content[middle:])


@pytest.fixture
def server(tiny):
    with Server(tiny.archive) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def dead():
    """Give an address where nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{s.getsockname()[1]}/cifar-10-python.tar.gz"


@pytest.fixture(autouse=True)
def home(tmp_path, tiny, monkeypatch):
    """Let the small archive be what is expected, and no source be beyond this machine."""
    for name, value in tiny.constants().items():
        monkeypatch.setattr(datasets.CIFAR10, name, value)
    for dataset in (datasets.CIFAR10, datasets.CIFAR100):
        monkeypatch.setattr(dataset, "url", "http://127.0.0.1:1/upstream")
    monkeypatch.setattr(download, "MIRRORS", {"cifar10": (), "cifar100": ()})
    monkeypatch.setattr(download, "RETRY_AFTER", 0)
    monkeypatch.delenv("DENSENET_CIFAR_URL", raising=False)
    monkeypatch.setenv("DENSENET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def sources(monkeypatch):
    def set_sources(*urls):
        monkeypatch.setattr(download, "MIRRORS", {"cifar10": urls[:-1], "cifar100": ()})
        monkeypatch.setattr(datasets.CIFAR10, "url", urls[-1])

    return set_sources


def left(root):
    """List what lies in a folder beside the empty lock."""
    return sorted(path.name for path in root.iterdir() if path.name != ".cifar10.lock")


WHOLE = ["cifar-10-batches-py", "cifar-10-python.tar.gz"]


# What goes well


def test_a_good_source(server, sources, home, tiny, capsys):
    sources(server.url("whole"))
    folder = fetch_cifar()
    assert folder == home / "cifar-10-batches-py" and left(home) == WHOLE
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == tiny.files
    assert server.asked == [("whole", None)]
    assert server.url("whole") in capsys.readouterr().out
    assert fetch_cifar() == folder and len(server.asked) == 1, "nothing is fetched twice"


def test_what_was_fetched_is_what_load_images_reads(server, sources, home, tiny):
    sources(server.url("whole"))
    fetch_cifar("cifar10", home)
    for split, part in (("train", slice(5)), ("test", slice(5, 6))):
        found = load_images("auto", split)
        expected = np.concatenate(tiny.images[part]).reshape(-1, 3, 32, 32)
        assert found.images.is_contiguous() and found.labels.dtype == torch.int64
        np.testing.assert_array_equal(found.images, expected)
        assert found.labels.tolist() == np.concatenate(tiny.labels[part]).tolist()
        assert (found.name, found.split, found.classes) == ("CIFAR-10", split, (*tiny.classes,))
    pixels = np.concatenate(tiny.images[:5]).reshape(-1, 3, 32, 32) / 255
    np.testing.assert_allclose(found.mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std((0, 2, 3)), rtol=1e-12)
    assert load_images("cifar10", limit=30).labels.bincount().tolist() == [3] * 10


def test_the_order_of_sources(monkeypatch):
    monkeypatch.undo()
    zenodo, brainchip, upstream = download._sources("cifar10", datasets.CIFAR10)
    assert "zenodo.org" in zenodo and "brainchip.com" in brainchip
    assert upstream == datasets.CIFAR10.url
    assert datasets.CIFAR10.tgz_md5 == "c58f30108f718f92721af3b95e74349a"
    monkeypatch.setenv("DENSENET_CIFAR_URL", "http://127.0.0.1/x")
    assert download._sources("cifar100", datasets.CIFAR100) == [
        "http://127.0.0.1/x",
        datasets.CIFAR100.url,
    ]


def test_the_readers_own_source_comes_first(server, sources, monkeypatch):
    sources(server.url("none"))
    monkeypatch.setenv("DENSENET_CIFAR_URL", server.url("whole"))
    fetch_cifar()
    assert server.asked == [("whole", None)]


def test_a_file_url_serves_a_room_without_network(tmp_path, tiny, monkeypatch, home):
    (tmp_path / "copy.tar.gz").write_bytes(tiny.archive)
    monkeypatch.setenv("DENSENET_CIFAR_URL", (tmp_path / "copy.tar.gz").as_uri())
    assert fetch_cifar().is_dir() and left(home) == WHOLE


def test_an_archive_put_there_by_hand_is_used(home, tiny):
    home.mkdir()
    (home / "cifar-10-python.tar.gz").write_bytes(tiny.archive)
    assert fetch_cifar().is_dir() and left(home) == WHOLE


def test_cifar100_is_another_file(server, tiny, monkeypatch, home):
    listed = [["train", md5(b"train")], ["test", md5(b"test")]]
    archive = tar({f"cifar-100-python/{name}": name.encode() for name in ("train", "test", "meta")})
    monkeypatch.setattr(datasets.CIFAR100, "train_list", listed[:1])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", listed[1:])
    monkeypatch.setattr(
        datasets.CIFAR100, "meta", {"filename": "meta", "key": "x", "md5": md5(b"meta")}
    )
    monkeypatch.setattr(datasets.CIFAR100, "tgz_md5", md5(archive))
    monkeypatch.setattr(datasets.CIFAR100, "url", server.url("whole"))
    server.content = archive
    assert fetch_cifar("cifar100") == home / "cifar-100-python"
    with pytest.raises(
        ValueError, match="nothing to fetch for 'mnist': choose cifar10 or cifar100"
    ):
        fetch_cifar("mnist")


# Sources that fail


def test_a_refused_connection_and_a_404_lead_to_the_next_source(server, sources, dead, home):
    sources(dead, server.url("none"), server.url("whole"))
    assert fetch_cifar().is_dir() and left(home) == WHOLE
    assert server.asked == [("none", None), ("whole", None)]


def test_a_wrong_checksum_leads_to_the_next_source(server, sources, home):
    sources(server.url("wrong"), server.url("whole"))
    assert fetch_cifar().is_dir() and left(home) == WHOLE
    assert server.asked == [("wrong", None), ("whole", None)]


def test_a_dropped_line_goes_on_where_it_stopped(server, sources, home, tiny):
    server.drops = 3
    sources(server.url("drop"))
    assert fetch_cifar().is_dir() and left(home) == WHOLE
    n, have, ranges = len(tiny.archive), 0, [None]
    for _ in range(3):
        have = (have + n) // 2
        ranges.append(f"bytes={have}-")
    assert server.asked == [("drop", wanted) for wanted in ranges]


def test_the_next_run_goes_on_where_the_last_stopped(server, sources, dead, home, tiny):
    home.mkdir()
    (home / "cifar-10-python.tar.gz.part").write_bytes(tiny.archive[:5000])
    sources(dead, server.url("whole"))
    assert fetch_cifar().is_dir() and left(home) == WHOLE
    assert server.asked == [("whole", "bytes=5000-")]


def test_a_server_without_ranges_sends_all_again(server, sources, home, tiny):
    home.mkdir()
    (home / "cifar-10-python.tar.gz.part").write_bytes(tiny.archive[:5000])
    sources(server.url("plain"))
    assert fetch_cifar().is_dir() and left(home) == WHOLE
    assert server.asked == [("plain", "bytes=5000-")]


@pytest.mark.parametrize("rest", [b"", b"and more"])
def test_a_run_killed_after_the_last_byte(server, sources, home, tiny, rest):
    home.mkdir()
    (home / "cifar-10-python.tar.gz.part").write_bytes(tiny.archive + rest)
    sources(server.url("whole"))
    assert fetch_cifar().is_dir() and left(home) == WHOLE
    again = [("whole", None)] if rest else []
    assert server.asked == [("whole", f"bytes={len(tiny.archive + rest)}-"), *again]


def test_a_start_of_other_bytes_is_thrown_away(server, sources, home):
    home.mkdir()
    (home / "cifar-10-python.tar.gz.part").write_bytes(b"y" * 5000)
    sources(server.url("whole"))
    assert fetch_cifar().is_dir() and left(home) == WHOLE
    assert server.asked == [("whole", "bytes=5000-"), ("whole", None)]


def test_a_login_page_does_not_cost_what_is_here(server, sources, home, tiny):
    home.mkdir()
    part = home / "cifar-10-python.tar.gz.part"
    part.write_bytes(tiny.archive[:2000])
    sources(server.url("portal"))
    with pytest.raises(DownloadError, match="a whole of 380 bytes, less than is here"):
        fetch_cifar()
    assert part.read_bytes() == tiny.archive[:2000] and left(home) == [part.name]
    sources(server.url("portal"), server.url("whole"))
    fetch_cifar()
    assert server.asked[-1] == ("whole", "bytes=2000-") and left(home) == WHOLE


def test_a_length_with_commas(server, sources, home):
    sources(server.url("commas"))
    fetch_cifar()
    assert left(home) == WHOLE


def test_cifar100_is_read(home, monkeypatch):
    folder, names = home / "cifar-100-python", [f"kind{i}" for i in range(100)]
    folder.mkdir(parents=True)
    files = {
        part: old_pickle(
            {"data": np.full((100, 3072), n, np.uint8), "fine_labels": list(range(100))}
        )
        for n, part in enumerate(("train", "test"))
    }
    files["meta"] = old_pickle({"fine_label_names": names})
    for name, content in files.items():
        (folder / name).write_bytes(content)
        listed = [[name, md5(content)]]
        monkeypatch.setattr(datasets.CIFAR100, f"{name}_list", listed, raising=False)
    meta = {"filename": "meta", "key": "fine_label_names", "md5": md5(files["meta"])}
    monkeypatch.setattr(datasets.CIFAR100, "meta", meta)
    found = load_images("cifar100", "test")
    assert (found.name, found.classes, found.labels.tolist()) == (
        "CIFAR-100", (*names,), [*range(100)],
    )  # fmt: skip
    assert (found.images == 1).all()


def test_a_source_that_says_nothing_is_given_up(server, sources, home, monkeypatch):
    real = download.urllib.request.urlopen

    def urlopen(request, timeout):  # impatient with the mute one alone: the machine may be busy
        return real(request, timeout=0.3 if "/mute" in request.full_url else timeout)

    monkeypatch.setattr(download.urllib.request, "urlopen", urlopen)
    sources(server.url("mute"), server.url("whole"))
    assert fetch_cifar().is_dir() and left(home) == WHOLE
    assert server.asked == [("mute", None), ("whole", None)]


def test_when_all_fail_one_sentence_tells_what_each_answered(server, sources, dead, home):
    sources(dead, server.url("none"), server.url("wrong"), "no-address", server.url("wrong"))
    with pytest.raises(DownloadError) as error:
        fetch_cifar()
    message, port = str(error.value), server.server_port
    assert re.search(f"{dead.split('/')[2]}: .+; 127.0.0.1:{port}: HTTP 404 Not Found;", message)
    assert message.count("a file with another checksum") == 2 and "unknown url type" in message
    assert "DENSENET_CIFAR_URL" in message and str(home) in message and "\n" not in message
    assert left(home) == []


def test_a_truncated_file_is_never_taken_for_whole(server, sources, home, tiny):
    sources(server.url("short"))
    with pytest.raises(DownloadError, match=r"stopped after [\d,]+ of [\d,]+ bytes"):
        fetch_cifar()
    assert left(home) == ["cifar-10-python.tar.gz.part"]  # for the next run to go on from
    part = (home / "cifar-10-python.tar.gz.part").read_bytes()
    assert tiny.archive.startswith(part) and len(part) < len(tiny.archive)


# Disks that fail


def test_a_target_that_cannot_be_written(server, sources, tmp_path):
    (tmp_path / "file").write_text("")
    sources(server.url("whole"))
    with pytest.raises(DownloadError, match=r"Cannot write to .*file.*\(.+\): make room"):
        fetch_cifar(root=tmp_path / "file" / "data")
    assert server.asked == []


@pytest.mark.parametrize("step", ["fetching", "unpacking"])
def test_a_full_disk(server, sources, home, tiny, monkeypatch, step):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    class FullFile(io.FileIO):
        write = full

    with monkeypatch.context() as patch:
        if step == "fetching":
            patch.setattr(download, "open", FullFile, raising=False)
        else:
            patch.setattr(tarfile.TarFile, "makefile", full)
        sources(server.url("whole"), server.url("whole"))
        with pytest.raises(DownloadError, match=f"{home} .No space left on device.: make room"):
            fetch_cifar()
    assert len(server.asked) == 1, "another source would not help"
    assert left(home) == ["cifar-10-python.tar.gz" + ".part" * (step == "fetching")]
    assert fetch_cifar().is_dir() and left(home) == WHOLE


# Archives and folders that are not what they seem


def test_an_archive_that_leads_out_of_its_folder_is_refused(
    server, sources, home, tiny, monkeypatch
):
    for name in ("../evil", "cifar-10-batches-py/../../../evil"):
        files = {f"cifar-10-batches-py/{n}": c for n, c in tiny.files.items()}
        server.content = tar(files | {name: b"evil"})
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(server.content))
        sources(server.url("whole"))
        with pytest.raises(DownloadError, match=r"not safe to unpack.*evil.*: delete it"):
            fetch_cifar()
        assert left(home) == ["cifar-10-python.tar.gz"]
        assert not list(home.parent.rglob("evil"))


@pytest.mark.parametrize(
    "content", [tar({"other/file": b"x"}), b"no archive", b"\x1f\x8b\x08broken"]
)
def test_an_archive_of_something_else_is_refused(server, sources, home, monkeypatch, content):
    server.content = content
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(content))
    sources(server.url("whole"))
    with pytest.raises(DownloadError, match="does not hold|cannot be unpacked"):
        fetch_cifar()
    assert left(home) == ["cifar-10-python.tar.gz"]


def test_altered_files_are_named_and_then_repaired(server, sources, home, tiny):
    sources(server.url("whole"))
    folder = fetch_cifar()
    (folder / "data_batch_3").write_bytes(b"altered")
    for name in ("test_batch", "batches.meta"):
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_images()
    message = str(error.value)
    found = "data_batch_3 (altered), test_batch (missing), batches.meta (missing)"
    assert f"{folder} ({found})" in message
    assert "python -m densenet_lib data --source cifar10" in message and "\n" not in message
    assert fetch_cifar() == folder and left(home) == WHOLE
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == tiny.files
    assert len(server.asked) == 1, "the archive was still there"


def test_a_read_only_copy_is_enough(server, sources, home, monkeypatch):
    sources(server.url("whole"))
    folder = fetch_cifar()

    def no_writing(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(download, "open", no_writing, raising=False)
    assert fetch_cifar() == folder


def test_who_had_to_wait_finds_it_done(home, tiny, monkeypatch):
    def wait_for_another_process(path):
        (home / "cifar-10-batches-py").mkdir()
        for name, content in tiny.files.items():
            (home / "cifar-10-batches-py" / name).write_bytes(content)
        return contextlib.nullcontext()

    monkeypatch.setattr(download, "_lock", wait_for_another_process)
    assert fetch_cifar() == home / "cifar-10-batches-py"  # though no source is there to ask
    assert left(home) == ["cifar-10-batches-py"]


# The command, in processes of its own

DRIVER = """
import json, sys
from torchvision import datasets
from densenet_lib import __main__
from densenet_lib.data import download
constants = json.loads(sys.argv[1])
download.MIRRORS = {"cifar10": ()}
for name, value in constants.items():
    setattr(datasets.CIFAR10, name, value)
sys.exit(__main__.main(["data", "--root", sys.argv[2]]))
"""


def wait_until(true):
    for _ in range(1200):  # a minute
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("waited for a minute in vain")


def test_of_three_processes_one_fetches_and_if_it_is_killed_one_goes_on(server, tiny, tmp_path):
    constants = json.dumps(tiny.constants() | {"url": server.url("hold")})
    root, logs = tmp_path / "shared", [tmp_path / f"log{i}" for i in range(3)]
    call, processes = [sys.executable, "-c", DRIVER, constants, str(root)], []
    try:
        for log in logs:
            with open(log, "w") as file:
                processes.append(subprocess.Popen(call, stdout=file, stderr=subprocess.STDOUT))
        wait_until(server.half.is_set)
        wait_until(lambda: sum("Another process is" in log.read_text() for log in logs) == 2)
        assert server.asked == [("hold", None)], "only one may ask"
        (first,) = (i for i, log in enumerate(logs) if "Fetching" in log.read_text())
        processes[first].kill()
        server.go.set()
        codes = [process.wait(60) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    told = [log.read_text() for log in logs]
    assert [code == 0 for code in codes] == [i != first for i in range(3)], told
    assert sum(f"checked: {root / 'cifar-10-batches-py'}" in text for text in told) == 2
    assert not any("Traceback" in text for text in told)
    _, (_, wanted) = server.asked  # one more only: the third process finds it done
    have = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
    assert 0 < have <= len(tiny.archive) // 2 and left(root) == WHOLE


# The command line


def test_the_command_tells_where_things_are(server, sources, home, tmp_path, capsys):
    sources(server.url("whole"))
    assert main(["data"]) == 0
    assert main(["data", "--source", "cifar10", "--root", str(tmp_path / "other")]) == 0
    output, other = capsys.readouterr().out, tmp_path / "other"
    assert f"checked: {home / 'cifar-10-batches-py'}" in output
    assert f"checked: {other / 'cifar-10-batches-py'}" in output
    for root, elsewhere in ((home, 0), (other, 1)):
        assert output.count(f"everyone sets DENSENET_HOME={root}\n") == 1
        assert output.count(f"unless you set DENSENET_HOME={root}\n") == elsewhere


def test_the_command_fails_with_one_line(sources, dead, capsys):
    sources(dead)
    assert main(["data"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("python -m densenet_lib: No source gave") and message.count("\n") == 1


def test_the_command_can_be_stopped(monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("densenet_lib.data.download.fetch_cifar", stopped)
    assert main(["data"]) == 130
    assert "Run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [[], ["date"], ["data", "--source", "shapes"], ["data", "more"]])
def test_wrong_use_exits_with_2(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    assert stopped.value.code == 2
    assert "usage: python -m densenet_lib" in capsys.readouterr().err


def test_help_comes_at_once(capsys):
    code = "import sys, runpy; sys.argv = ['x', 'data', '--help']\ntry: "
    code += "runpy.run_module('densenet_lib', run_name='__main__')\nexcept SystemExit as e: "
    code += "sys.exit(e.code or 'torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    for words in ("--source", "--root", "DENSENET_HOME", "DENSENET_CIFAR_URL", "170 MB"):
        assert words in output.decode()
