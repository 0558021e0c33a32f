"""tools/setup.py: which PyTorch it takes, where it falls back, and what it says.

The packages are tiny wheels in a folder. The "uv" among them installs from a second folder, which
stands for the index of the CPU build.
"""

import ast
import inspect
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest
import torch
from house_rules import ROOT
from packaging.specifiers import SpecifierSet

from tools import setup

UV = """
import os, subprocess, sys
python, cpu = sys.argv[4], os.environ["CPU_INDEX"]
assert sys.argv[1:4] == ["pip", "install", "--python"], sys.argv
assert sys.argv[5:8] == ["--no-deps", "--torch-backend", "cpu"], sys.argv
if not os.path.isdir(cpu):
    sys.exit("uv: no answer")
if "--dry-run" not in sys.argv:
    command = [python, "-m", "pip", "install", "--no-deps", "--no-index", "--find-links", cpu]
    sys.exit(subprocess.call(command + sys.argv[8:]))
"""
BACKEND = """
def build_editable(folder, config_settings=None, metadata_directory=None):
    return wheel(folder, "densenet-lib", "0.1", needs=["torch>=2.6", "tiny", "torchvision"])
def get_requires_for_build_editable(config_settings=None):
    return []
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "densenet-lib"
version = "0.1"
"""


def wheel(folder, name, version, files=None, needs=()):
    """Write a wheel into `folder` that holds `files` {path: text}, and return its file name."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {need}" for need in needs] + ["Provides-Extra: notebooks"]
    files = files or {f"{name.replace('-', '_')}/__init__.py": ""}
    files = {**files, f"{info}/METADATA": "\n".join(metadata) + "\n"}
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    file = info.replace(".dist-info", "-py3-none-any.whl")
    with zipfile.ZipFile(os.path.join(folder, file), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return file


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Let pip see nothing but tiny packages, in the folder `plain`; `cpu` is the other index."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for folder in ("plain", "cpu", "empty"):
        (tmp_path / folder).mkdir()
    for number in ("2.14.1", "2.15.0"):
        for name in ("torch", "torchvision"):
            wheel(tmp_path / "plain", name, number)
            wheel(tmp_path / "cpu", name, f"{number}+cpu")
    for number in ("1.0", "1.1"):
        wheel(tmp_path / "plain", "tiny", number)
    wheel(tmp_path / "plain", "uv", "0.9.0", {"uv/__init__.py": "", "uv/__main__.py": UV})
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "empty").as_uri())
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "plain"))
    monkeypatch.setenv("CPU_INDEX", str(tmp_path / "cpu"))
    return tmp_path


def test_the_cpu_build_in_the_tested_versions(packages):
    """The whole set-up of a small project, as a program."""
    (packages / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "setup.py", packages / "tools")
    (packages / "pyproject.toml").write_text(PROJECT)
    source = "import os, zipfile\n" + inspect.getsource(wheel) + BACKEND
    (packages / "backend.py").write_text(source)
    pins = "# a comment\ntorch==2.14.1\ntorchvision==2.14.1\ntiny==1.0\nunused==9\n"
    (packages / "constraints.txt").write_text(pins)
    command = [sys.executable, "tools/setup.py", "--torch", "cpu", "--tested"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    result = subprocess.run(command, cwd=packages, **pipes)
    assert result.returncode == 0, result.stdout
    assert "PyTorch: the CPU build, as wished.\n" in result.stdout
    size = r"\.venv takes 0\.\d GB, of which PyTorch 2\.14\.1\+cpu \(without NVIDIA's libraries\) "
    assert re.search(size + r"0\.0 GB\.\nAll as tested\.\n", result.stdout), result.stdout
    assert (packages / ".venv" / ".complete").exists()
    there, _ = setup.look(packages / ".venv" / setup.SCRIPTS / "python")
    assert there["tiny"] == "1.0" and "uv" not in there


def test_an_index_that_cannot_be_reached(packages, capfd):
    shutil.rmtree(packages / "cpu")
    assert not setup.with_uv(sys.executable, "cpu", [])
    assert "uv: no answer" in capfd.readouterr().err
    shutil.rmtree(packages / "plain")  # not even uv can be had
    assert not setup.with_uv(sys.executable, "cpu", [])


@pytest.mark.parametrize("system", ["nt", "posix"])
@pytest.mark.parametrize("length", [100, 101])
def test_a_long_name_is_told_before_windows_fails(system, length, tmp_path, monkeypatch, capsys):
    theirs = SimpleNamespace(**{**vars(os), "name": system})  # of this module alone
    theirs.path = SimpleNamespace(**{**vars(os.path), "abspath": lambda _: "x" * length})
    monkeypatch.setattr(setup, "os", theirs)
    monkeypatch.setattr(setup, "ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # as it will do: so that this is undone
    monkeypatch.setattr(setup, "look", lambda python: ({"torch": "2"}, ""))
    monkeypatch.setattr(subprocess, "call", lambda command: 1)
    with pytest.raises(SystemExit, match="The set-up failed"):
        setup.main()
    told = "and not into OneDrive" in capsys.readouterr().out
    assert told is (system == "nt" and length > 100)


def test_it_goes_on_where_something_cannot_be_had(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(setup, "look", lambda python: ({}, ""))
    monkeypatch.setattr(setup, "choose", lambda wish: ("cpu", "the CPU build."))
    monkeypatch.setattr(setup, "with_uv", lambda *_: False)
    monkeypatch.setattr(
        subprocess, "call", lambda command: calls.append(command) or "-c" in command
    )
    assert not setup.install("python", "book", "", setup.TESTED)
    first, second = calls
    assert first[-4:] == ["-c", "constraints.txt", "-e", ".[book]"]
    assert second == [*setup.pip("python"), "-e", ".[book]"]
    said = capsys.readouterr().out
    assert "That build cannot be had here, see above. Going on with pip's own." in said
    assert "The tested versions cannot all be had here, see above." in said


def test_the_report_names_what_is_not_as_tested(tmp_path, monkeypatch, capsys):
    (tmp_path / "nvidia").mkdir()
    (tmp_path / "constraints.txt").write_text("tiny==7\ntorch==2.14.1\nunused==9\n")
    there = {"torch": "2.15.0", "tiny": "7", "other": "1"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(setup, "look", lambda python: (there, str(tmp_path)))
    setup.report("python", "venv", setup.TESTED)
    said = capsys.readouterr().out
    assert "PyTorch 2.15.0 (with NVIDIA's libraries)" in said
    assert said.endswith("\nNot the tested versions: torch 2.15.0 (tested: 2.14.1)\n")
    setup.report("python", "venv", [])
    assert "tested" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("platform", "gpu", "wish", "backend", "words"),
    [
        ("linux", False, "", "cpu", "no NVIDIA GPU was found"),
        ("linux", True, "", "auto", "fits this machine's driver: there is an NVIDIA GPU"),
        ("linux", True, "cuda", "auto", "fits this machine's driver"),
        ("linux", True, "default", None, "pip's own build, as wished"),
        ("linux", True, "cpu", "cpu", "as wished"),
        ("linux", False, "cuda", None, "as wished. On Linux it carries CUDA"),
        ("linux", False, "default", None, "as wished"),
        ("win32", True, "", None, "on Windows is the CPU's"),
        ("win32", True, "cuda", "auto", "fits this machine's driver"),
        ("darwin", False, "cuda", None, "no CUDA on a Mac"),
    ],
)
def test_which_build_is_taken(platform, gpu, wish, backend, words, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(shutil, "which", lambda name: name if gpu else None)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    monkeypatch.setattr(setup.platform, "machine", lambda: "arm64")
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    chosen, sentence = setup.choose(wish)
    assert chosen == backend and words in sentence
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # a folder of wheels: nothing is asked elsewhere
    assert setup.choose(wish)[0] is None


@pytest.mark.parametrize(
    ("platform", "machine", "build", "words"),
    [
        ("darwin", "x86_64", "macosx-10.13-universal2", "no longer built for Intel's Macs"),
        ("win32", "ARM64", "win-arm64", "finds no PyTorch for an ARM Python on Windows"),
    ],
)
def test_a_machine_without_pytorch_is_told_so(platform, machine, build, words, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(setup.platform, "machine", lambda: machine)
    monkeypatch.setattr(setup.sysconfig, "get_platform", lambda: build)
    with pytest.raises(SystemExit, match=words):
        setup.choose("")
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # who brings the packages along knows what they do
    assert setup.choose("")[0] is None


@pytest.mark.parametrize("name", ["python", "python.exe"])
def test_a_python_too_new_for_pytorch_is_told_so(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "call", lambda command: "-e" in command)
    monkeypatch.setattr(setup, "look", lambda python: ({"pip": "25"}, ""))
    monkeypatch.setattr(setup, "with_uv", lambda *_: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / setup.SCRIPTS).mkdir()
    (tmp_path / setup.SCRIPTS / name).touch()
    with pytest.raises(SystemExit, match="set-up failed"):
        setup.main(str(tmp_path))
    assert "this Python may be too new for PyTorch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "wish", "words"),
    [
        (0, "", ""),
        (setup.CUDA_BUILD, "", "its driver may be too old"),
        (setup.CUDA_BUILD + 1, "", "this is the CPU's PyTorch"),
        (setup.CUDA_BUILD + 1, "cpu", ""),
    ],
)
def test_a_gpu_that_is_not_used_is_told(answer, wish, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "call", lambda command: answer * (setup.LACKS in command))
    monkeypatch.setattr(setup, "look", lambda python: ({"torch": "2.14.1"}, ""))
    monkeypatch.setattr(shutil, "which", lambda name: name)
    setup.main(str(tmp_path), wish=wish)
    said = capsys.readouterr().out
    assert ("There is an NVIDIA GPU" in said) == bool(words) and words in said
    assert (tmp_path / ".complete").exists()


def test_what_it_asks_of_pytorch_is_answered():
    asked = subprocess.run([sys.executable, "-c", setup.LACKS], check=False)
    build = setup.CUDA_BUILD if torch.version.cuda else setup.CUDA_BUILD + 1
    assert asked.returncode == (0 if torch.cuda.is_available() else build)


def test_an_index_that_never_answers_is_given_up(monkeypatch):
    real, calls = subprocess.call, []

    def call(command, **more):
        calls.append(command)
        hang = [sys.executable, "-c", "import time; time.sleep(60)"]
        return real(hang, **more) if "--dry-run" in command else 0

    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr(setup, "PATIENCE", 0.2)
    assert not setup.with_uv("python", "cpu", [])
    assert len(calls) == 2  # uv itself, and the question
    monkeypatch.setattr(setup, "PATIENCE", 60)
    monkeypatch.setattr(subprocess, "call", lambda command, **more: calls.append(command) or 0)
    assert setup.with_uv("python", "cpu", setup.TESTED)
    assert calls[-1][-4:] == ["-c", "constraints.txt", "torch", "torchvision"]


def test_a_pytorch_that_is_there_stays(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(setup, "look", lambda python: ({"torch": "2.14.1"}, ""))
    monkeypatch.setattr(subprocess, "call", lambda command: calls.append(command) or 0)
    assert setup.install("python", "book", "cpu", []) == 0
    assert "PyTorch 2.14.1 is there already." in capsys.readouterr().out
    assert calls == [[*setup.pip("python"), "-e", ".[book]"]]


@pytest.mark.parametrize("failing", ["venv", "-e", "import torchvision"])
def test_only_a_complete_environment_is_marked(failing, tmp_path, monkeypatch):
    """The last step tells whether PyTorch and torchvision are builds that fit each other."""
    monkeypatch.setattr(subprocess, "call", lambda command: failing in command)
    monkeypatch.setattr(setup, "look", lambda python: ({"torch": "2.14.1"}, ""))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="set-up failed"):
        setup.main(str(tmp_path))
    assert not (tmp_path / ".complete").exists()
    monkeypatch.setattr(subprocess, "call", lambda command: 0)
    setup.main(str(tmp_path))
    setup.main(str(tmp_path), "book")
    assert (tmp_path / ".complete").exists() and (tmp_path / ".complete-book").exists()


def test_sizes(tmp_path):
    for folder, size in (("a", 1_400_000_000), ("a/b", 300_000_000), ("c", 5)):
        (tmp_path / folder).mkdir()
        with open(tmp_path / folder / "file", "wb") as file:
            file.truncate(size)  # a file with a hole takes no room here
    assert setup.gigabytes(tmp_path / "a", tmp_path / "none") == "1.7 GB"
    assert setup.gigabytes(tmp_path / "c") == "0.0 GB"


def test_an_old_python_is_told_so(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    with pytest.raises(SystemExit, match="This is Python 3.9, but the series needs 3.10"):
        runpy.run_path(str(ROOT / "tools" / "setup.py"))


def test_an_old_python_can_read_it_so_far():
    """The sentence above is of no use where the file as a whole is a syntax error."""
    tree = ast.parse((ROOT / "tools" / "setup.py").read_text("utf-8"))
    lists = [node for node in ast.walk(tree) if isinstance(node, ast.List)]
    young = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Match, ast.AsyncFunctionDef)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, young)]
    assert not [node.lineno for node in lists if any(isinstance(e, ast.Starred) for e in node.elts)]


def test_an_unknown_build_is_refused():
    command = [sys.executable, str(ROOT / "tools" / "setup.py"), "--torch", "gpu"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "invalid choice: 'gpu'" in result.stderr


def test_the_tested_versions_are_those_that_pyproject_allows():
    """All that it names, extras included, has one version, within the bounds."""
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    asked = pyproject.partition("[project]")[2].partition("[tool.")[0]
    bounds = dict(re.findall(r'"([\w-]+)(>=[\d.]+)"', asked))
    text = (ROOT / "constraints.txt").read_text("utf-8")
    tested = setup.pins(text)
    assert len(bounds) > 12 and len(tested) == len(text.splitlines())
    for name, bound in bounds.items():
        assert tested[name] in SpecifierSet(bound), name
