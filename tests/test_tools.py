"""The programs in tools/: the runner, on notebooks that go wrong, and the smaller ones."""

import base64
import importlib.util
import io
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import nbformat
import pytest
import torch
from house_rules import PARAMETERS, ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from densenet_lib.checkpoints import build_network, load_checkpoint, recorded
from densenet_lib.densenet import DenseNet
from densenet_lib.training import RECIPES, Recipe
from tools import (
    bench,
    cheat_sheet,
    reference_runs,
    refresh,
    reuse,
    run_all,
    site,
    student,
    transfer,
)

KERNELSPEC = {"kernelspec": refresh.KERNEL}
RUNNER = [sys.executable, str(ROOT / "tools" / "run_all.py")]


def write(path, *sources, tags=()):
    """Write a notebook: the parameters cell, then these sources; the last one gets the tags."""
    cells = [new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(source, id=f"step-{n}") for n, source in enumerate(sources, start=2)]
    cells[-1].metadata["tags"] = [*cells[-1].metadata.get("tags", []), *tags]
    cells.insert(0, new_markdown_cell("# Title", id="title"))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=KERNELSPEC), path)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Run a series in which nearly everything goes wrong once; return its folder and the result."""
    tmp_path = tmp_path_factory.mktemp("series")
    notebooks, executed = tmp_path / "notebooks", tmp_path / "build" / "executed"
    seen = "print('no headline')\nimport os\nprint(PROFILE, DATA, DEVICE, SEED, os.getcwd())"
    write(notebooks / "00_good.ipynb", seen, "print(SEED + 1, '%')", tags=["headline"])
    write(notebooks / "01_fails.ipynb", "print(1)", "raise ValueError('too\\nbad')", "print(3)")
    write(notebooks / "02_dies.ipynb", "import os", "os._exit(3)")
    write(notebooks / "03_hangs.ipynb", "import time\ntime.sleep(100)")
    write(notebooks / "04_leaves.ipynb", "raise SystemExit", "print('never')")
    write(notebooks / "05_other.ipynb", "print('no SEED here')")
    other = (notebooks / "05_other.ipynb").read_text("utf-8")
    (notebooks / "05_other.ipynb").write_text(other.replace("SEED = ", "GRAIN = "), "utf-8")
    write(notebooks / "06_unwanted.ipynb", "print('not chosen')")
    executed.mkdir(parents=True)
    (executed / "01_fails.ipynb").write_text("an earlier, good output")
    (executed / "00_good.failed.ipynb").write_text("an earlier failure")
    (tmp_path / "pictures").mkdir()
    options = "--profile full --data pictures --device cpu --seed 4 --timeout 8 --jobs 3"
    command = [*RUNNER, "--notebooks", "notebooks", "--build", "build", *options.split()]
    command += ["--only", "00", "01", "02", "03", "04", "05_other"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    return tmp_path, result


def row(result, name):
    """Return a notebook's line in the final table, with single spaces."""
    table = result.stdout[result.stdout.index("notebook  ") :]
    return " ".join(next(line for line in table.splitlines() if line.startswith(name)).split())


def test_a_series_goes_on_past_failures(series):
    _, result = series
    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 of 6 notebooks ran through" in result.stdout and "06_unwanted" not in result.stdout


def test_a_good_notebook_shows_its_headline(series):
    folder, result = series
    name, status, seconds, *headline = row(result, "00_good").split()
    assert (status, headline) == ("ok", ["5", "%"]) and float(seconds) > 0
    assert not (folder / "build" / "executed" / "00_good.failed.ipynb").exists()


def test_parameters_reach_the_notebook(series):
    """A folder is made absolute, because the notebook runs in its own."""
    folder, _ = series
    cells = nbformat.read(folder / "build" / "executed" / "00_good.ipynb", as_version=4).cells
    printed = next(cell for cell in cells if cell.id == "step-2").outputs[0].text
    folder = folder.resolve()
    assert printed == f"no headline\nfull {folder / 'pictures'} cpu 4 {folder / 'notebooks'}\n"


@pytest.mark.parametrize(
    ("name", "status", "detail"),
    [
        ("01_fails", "failed cell 3", "cell 3 (step-3): ValueError: too"),
        ("02_dies", "kernel died", "cell 3 (step-3): the kernel died"),
        ("03_hangs", "timeout", "cell 2 (step-2): still running at the time limit (--timeout)"),
        ("04_leaves", "failed cell 2", "cell 2 (step-2): SystemExit"),
        ("05_other", "unknown parameter", "no SEED tagged `parameters`"),
    ],
)
def test_failures_are_told_apart(series, name, status, detail):
    folder, result = series
    assert row(result, name).startswith(f"{name} {status} ")
    assert f"\n{name}.ipynb, {detail}\n" in result.stdout
    assert (folder / "build" / "executed" / f"{name}.failed.ipynb").exists()
    assert (folder / "build" / "logs" / f"{name}.log").stat().st_size > 0


def test_a_failed_output_spares_the_good_one(series):
    folder, _ = series
    executed = folder / "build" / "executed"
    assert (executed / "01_fails.ipynb").read_text() == "an earlier, good output"
    endings = {path.name.partition(".")[2] for path in executed.iterdir()}
    assert endings == {"ipynb", "failed.ipynb"}  # nothing half-done is left


def alive(pid):
    """Say whether a process runs; one that ended but was not collected does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")


def wait_until(done):
    """Return when `done()` is true; fail after a minute."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.skipif(os.name == "nt", reason="no process groups to signal")
def test_a_killed_runner_leaves_no_kernel(tmp_path):
    note = "import os\nopen('started', 'w').write(f'{os.getppid()} {os.getpid()} .')"
    write(tmp_path / "00_busy.ipynb", note, "import time\ntime.sleep(100)")
    started = tmp_path / "started"
    command = [*RUNNER, "--notebooks", str(tmp_path), "--build", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as runner:
        wait_until(lambda: started.exists() and started.read_text().endswith("."))
        runner.kill()
    papermill, kernel, _ = started.read_text().split()
    wait_until(lambda: not alive(papermill) and not alive(kernel))


@pytest.mark.skipif(os.name == "nt", reason="no process groups to signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_all_children(tmp_path, number):
    busy = """
import os, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
pathlib.Path("started").write_text(f"{os.getppid()} {os.getpid()} {child.pid} .")
while True:
    pass"""
    write(tmp_path / "00_busy.ipynb", busy)
    write(tmp_path / "01_waits.ipynb", "print(1)")
    executed, started = tmp_path / "executed", tmp_path / "started"
    executed.mkdir()
    (executed / "00_busy.ipynb").write_text("an earlier, good output")
    command = [*RUNNER, "--notebooks", str(tmp_path), "--build", str(tmp_path), "--jobs", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as runner:
        wait_until(lambda: started.exists() and started.read_text().endswith("."))
        papermill, kernel, child, _ = started.read_text().split()
        assert alive(papermill) and alive(kernel) and alive(child)
        runner.send_signal(number)
        printed, _ = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert not alive(papermill) and not alive(kernel) and not alive(child)
    result = namedtuple("Result", "stdout")(printed)
    assert row(result, "00_busy").startswith("00_busy interrupted ")
    assert row(result, "01_waits") == "01_waits not run 0.0"
    assert "00_busy.ipynb, cell 2 (step-2): stopped\n" in printed
    assert (executed / "00_busy.ipynb").read_text() == "an earlier, good output"


def test_a_kernel_that_does_not_start_gets_a_second_try(tmp_path, monkeypatch, capsys):
    """This one dies at its first start, as kernels do that lose a race for a port."""
    spec = tmp_path / "kernels" / "shaky"
    start = "import pathlib, sys; p = pathlib.Path(sys.argv.pop(1)); n = p.exists(); p.touch(); "
    start += "n or sys.exit(1); from ipykernel.kernelapp import launch_new_instance as f; f()"
    argv = [sys.executable, "-c", start, str(tmp_path / "tried"), "-f", "{connection_file}"]
    spec.mkdir(parents=True)
    described = {"argv": argv, "display_name": "Shaky", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(described))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setattr(run_all, "KERNEL", "shaky")
    write(tmp_path / "00_good.ipynb", "print('done')", tags=["headline"])
    arguments = ["--notebooks", str(tmp_path), "--build", str(tmp_path)]
    assert run_all.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "kernel died: 00_good" in printed and printed.count("start: 00_good") == 2


@pytest.mark.parametrize(
    ("asked", "environment", "gpu", "usable", "found"),
    [
        ("cuda", "cpu", False, False, True),
        ("mps", "cpu", False, False, True),
        ("cpu", "cuda", True, True, False),
        (None, "cuda", False, False, True),
        (None, "auto", True, True, True),
        ("auto", "cuda", True, False, False),  # the CPU's PyTorch
        ("auto", "auto", False, True, False),
    ],
)
def test_a_gpu_is_given_to_one_notebook_at_a_time(
    asked, environment, gpu, usable, found, monkeypatch
):
    monkeypatch.setenv("DENSENET_DEVICE", environment)
    monkeypatch.setattr(shutil, "which", lambda name: name if gpu else None)
    answer = subprocess.CompletedProcess([], 0 if usable else 1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert run_all.on_gpu(asked) is found


def test_as_many_notebooks_as_the_memory_has_room_for(monkeypatch):
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2_000_000}  # 8 GB
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__, raising=False)
    assert run_all.room() == 3
    monkeypatch.delattr(os, "sysconf")
    assert run_all.room() == 4


@pytest.mark.parametrize("system", ["darwin", "linux"])
def test_on_a_mac_the_project_is_found_without_the_file_that_icloud_may_hide(
    system, tmp_path, monkeypatch
):
    started = []
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: started.append(env))
    for before in (None, "mine"):
        monkeypatch.delenv("PYTHONPATH", raising=False)
        if before:
            monkeypatch.setenv("PYTHONPATH", before)
        run_all.Execution(tmp_path / "00_a.ipynb", tmp_path, []).start(1)
    paths = [env.get("PYTHONPATH") for env in started]
    mac = [str(ROOT), os.pathsep.join([str(ROOT), "mine"])]
    assert paths == (mac if system == "darwin" else [None, "mine"])


def test_a_missing_kernel_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_all, "KERNEL", "nowhere")
    write(tmp_path / "00_good.ipynb", "print(1)")
    assert run_all.main(["--notebooks", str(tmp_path), "--build", str(tmp_path)]) == 1
    assert "no such kernel: 00_good" in (printed := capsys.readouterr().out)
    assert "00_good.ipynb, Jupyter has none called nowhere" in printed


def test_a_kernel_of_another_environment_is_told_apart(tmp_path, capsys):
    message = "No module named 'densenet_lib'"
    write(tmp_path / "00_good.ipynb", f'raise ModuleNotFoundError("{message}")')
    assert run_all.main(["--notebooks", str(tmp_path), "--build", str(tmp_path)]) == 1
    assert "kernel python3 is of an environment without densenet_lib" in capsys.readouterr().out


def test_braces_in_a_path_are_no_template(tmp_path, capsys):
    folder = tmp_path / "a {b} c{}"
    write(folder / "00_good.ipynb", "print('done')", tags=["headline"])
    assert run_all.main(["--notebooks", str(folder), "--build", str(folder)]) == 0
    assert (folder / "executed" / "00_good.ipynb").exists()


@pytest.mark.parametrize(
    ("options", "variable", "seconds"),
    [
        ("", "", 900),
        ("--profile full", "", 7200),
        ("", "full", 7200),
        ("--profile quick", "full", 900),
        ("--profile full --timeout 8", "", 8),
    ],
)
def test_a_cell_may_take_longer_in_earnest(options, variable, seconds, monkeypatch):
    monkeypatch.setenv("DENSENET_PROFILE", variable)
    assert run_all.parse(options.split()).timeout == seconds


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--only 99", "no notebook 99 in"),
        ("--data no/such/folder", "--data takes auto, cifar10, cifar100, shapes or a folder"),
        ("--profile fast", "invalid choice: 'fast'"),
        ("--device tpu", "invalid choice: 'tpu'"),
        ("--jobs 0 --timeout 0", "--jobs and --timeout take 1 or more"),
        ("--seed -1", "--seed takes 0 or more"),
        ("--notebooks no_such_folder", "there are: none"),
    ],
)
def test_wrong_options_end_in_one_sentence(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        run_all.main(arguments.split())
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err


def test_refresh_stores_outputs_and_spares_what_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(refresh, "NOTEBOOKS", tmp_path)
    for name in refresh.STORED:
        monkeypatch.setenv(name, "other")
    good, bad = tmp_path / "00_good.ipynb", tmp_path / "01_bad.ipynb"
    write(good, "import sys\nprint(DATA, flush=True)\nprint(PROFILE, DEVICE, SEED)\n1 + 1")
    write(bad, "1 / 0")
    before = bad.read_bytes()

    assert refresh.main([]) == 1
    assert bad.read_bytes() == before and "ZeroDivisionError" in capsys.readouterr().out
    notebook = nbformat.read(good, as_version=4)
    printed, value = notebook.cells[2].outputs
    assert printed.text == "shapes\nquick cpu 0\n" and value.data["text/plain"] == "2"
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2]
    assert notebook.cells[1].source == PARAMETERS
    assert notebook.cells[1].metadata == {"tags": ["parameters"]}

    stored = good.read_bytes()
    assert refresh.main(["--only", "00", "--normalise"]) == 0
    assert good.read_bytes() == stored and "unchanged" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [good.name, bad.name]
    with pytest.raises(SystemExit):
        refresh.main(["--only", "99"])
    assert "no notebook begins with 99" in capsys.readouterr().err


EXERCISE = '''def two(x):
    """Return 2."""
    ### BEGIN SOLUTION
    one = 1
    return one + one
    ### END SOLUTION

class Three:
    def three(self):
        ### BEGIN SOLUTION
        return 3
        ### END SOLUTION
    four = 4'''
STUDENTS = '''def two(x):
    """Return 2."""
    raise NotImplementedError("your turn")

class Three:
    def three(self):
        raise NotImplementedError("your turn")
    four = 4'''


def test_student_copy(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(student, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(student, "STUDENT", tmp_path / "student")
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "renamed.ipynb").touch()
    path = tmp_path / "notebooks" / "00_a.ipynb"
    write(path, EXERCISE, "print(2)", "the answer is 2", tags=["solution"])
    whole = nbformat.read(path, as_version=4)
    said = [f"In {run}, 3." for run in ("the run stored here", "the run that is stored here")]
    whole.cells += map(new_markdown_cell, said)
    whole.cells[2].metadata["jupyter"] = {"source_hidden": True}
    shown = new_output("stream", text="Exercise 0.1: correct.\n")
    whole.cells[2].update(execution_count=2, outputs=[shown])
    nbformat.write(whole, path)
    before = path.read_bytes()
    assert student.main() == 0

    (copy,) = (tmp_path / "student").iterdir()
    cells = nbformat.read(copy, as_version=4).cells
    assert [cell.source for cell in cells[-2:]] == ["In our run, 3."] * 2  # for a copy stores none
    sources = {cell.id: cell.source for cell in cells[:-2]}
    expected = {"title": "# Title", "parameters": PARAMETERS, "step-2": STUDENTS}
    assert sources == {**expected, "step-3": "print(2)"}
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert not any("jupyter" in cell.metadata for cell in cells)  # which folds a solution
    assert path.read_bytes() == before

    write(path, EXERCISE.replace("        ### END", "        # END"))
    with pytest.raises(SystemExit, match="00_a.ipynb, cell step-2: a solution marker has no"):
        student.main()
    write(path, "print(2)")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = EXERCISE
    nbformat.write(notebook, path)
    with pytest.raises(SystemExit, match="cell title: a solution marker stands in a text cell"):
        student.main()


def story(name, *prose):
    """Return a notebook for the book, {its name: the notebook}, of cells of prose."""
    cells = [new_markdown_cell(text, id=f"words-{n}") for n, text in enumerate(prose)]
    return {name: new_notebook(cells=cells, metadata=KERNELSPEC)}


def test_the_book_links_the_first_use_of_each_word():
    first = story(
        "00_a.ipynb",
        "# 00 · A map\n\n`map`, [a map](x), no mapping.",
        "## Two *Maps*, of `x`\n\n    map\n\nSmall Maps grow.\n\n| map |\n\n<b>map</b>",
    )
    second = story("01_b.ipynb", "# 01 · B", "## What it is\n\nA *map* and a growth rate, a map.")
    text = "# Glossary\n\n```{glossary}\nmap\n  Flat.\n\ngrowth rate\n  k.\n  New.\n```\n"
    page = site.glossary_page(text, first | second)
    words = [cell.source for book in (first, second) for one in book.values() for cell in one.cells]
    assert words[0] == "# 00 · A map\n\n`map`, [a map](x), no mapping."
    assert "## Two *Maps*, of `x`\n\n    map\n\nSmall {term}`Maps <map>` grow." in words[1]
    assert words[1].endswith("| map |\n\n<b>map</b>")
    assert "A *{term}`map <map>`* and a {term}`growth rate <growth rate>`, a map." in words[3]
    assert "  Flat.\n  Explained in [01 · B](notebooks/01_b.ipynb#what-it-is). First met" in page
    assert "First met in [00 · A map](notebooks/00_a.ipynb#two-maps-of-x)." in page
    assert "  k.\n  New.\n  Explained in [01 · B](notebooks/01_b.ipynb#what-it-is).\n" in page
    with pytest.raises(ValueError, match="'growth rate' is used in no notebook"):
        site.glossary_page(text, first)


def test_the_book_folds_solutions_and_gathers_questions():
    (book,) = story("00_a.ipynb", "# 00 · A", "[all](../README.md)").values()
    book.cells += [new_code_cell(EXERCISE, id="task"), new_markdown_cell(QUESTION, id="ask")]
    assert site.questions_page({"00_a.ipynb": book}).endswith(
        "## [00 · A](notebooks/00_a.ipynb)\n\n<details><summary>Why?</summary>\n\nSo.\n\n</details>"
    )
    _, link, stub, task, _ = site.book_copy(book).cells
    assert link.source == "[all](../index.md)"
    assert "your turn" in stub.source and "hide-input" not in stub.metadata.get("tags", [])
    assert task.source == EXERCISE and task.metadata["tags"] == ["hide-input"]
    given = new_code_cell("SEED = 3", metadata={"tags": ["injected-parameters"]})
    (folded,) = site.book_copy(new_notebook(cells=[given])).cells  # as papermill adds it
    assert "hide-input" in folded.metadata["tags"]


QUESTION = (
    "## Questions to ask yourself\n\n<details><summary>Why?</summary>\n\nSo.\n\n</details>\n\nNext"
)


def test_the_book_shows_the_newer_outputs(tmp_path):
    stored, executed = tmp_path / "notebooks" / "00_a.ipynb", tmp_path / "executed" / "00_a.ipynb"
    for path, when in ((stored, 100), (executed, 200)):
        write(path, "print(1)")
        os.utime(path, (when, when))
    assert site.newest(stored, tmp_path) == executed
    os.utime(stored, (300, 300))  # changed since
    assert site.newest(stored, tmp_path) == stored
    executed.unlink()
    assert site.newest(stored, tmp_path) == stored


def test_without_sphinx_one_is_told_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(site, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="MyST-NB are missing: `make site`"):
        site.main(tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_file_of_the_reading_list_is_a_page():
    pages = site.library_pages()
    assert "[`densenet.py`](library/densenet.md)" in pages["library.md"]
    listed = {
        f"library/{path.relative_to(ROOT / 'densenet_lib').with_suffix('.md').as_posix()}"
        for path in (ROOT / "densenet_lib").rglob("*.py")
        if path.name != "__init__.py"
    }
    assert listed == set(pages) - {"library.md"}
    assert "class DenseBlock(nn.ModuleDict):" in pages["library/densenet.md"]


@pytest.mark.parametrize("heading", cheat_sheet.SHEET)
def test_the_formulas_hold_for_other_numbers_too(heading):
    values, *rows = cheat_sheet.SHEET[heading]
    for other in (
        {"c": 7, "k": 3, "L": 4, "i": 2, "H": 10, "W": 10, "θ": 0.3, "s": 5, "K": 3},
        {"c": 30, "k": 5, "L": 1, "i": 5, "H": 9, "W": 9, "θ": 1.0, "s": 2, "K": 100},
    ):
        for row in rows:
            row.agreed(values | {"n": other["k"], "m": other["i"]} | other)


def test_a_formula_that_has_drifted_makes_no_cheat_sheet():
    assert cheat_sheet.evaluate("L(8k + 36k²)⌊θc⌋ − 1", L=2, k=1, θ=0.5, c=5) == 2 * 44 * 2 - 1
    row = cheat_sheet.Row("maps", "c + k", lambda c, k: c + 2 * k)
    with pytest.raises(
        ValueError, match="cheat sheet, maps: c . k gives 3 where the library counts 5"
    ):
        row.agreed({"c": 1, "k": 2})


@pytest.fixture(autouse=True)
def as_from_a_shell(monkeypatch):
    """Forget that `make test` may have called us: make says more when it runs inside make."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make(tmp_path):
    """Return a function that shows what `make ARGUMENTS` would do, in a copy that is set up."""
    if not shutil.which("make"):
        pytest.skip("no make here")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".complete").touch()

    def show(*arguments, **environment):
        command, env = ["make", "-n", *arguments], {**os.environ, **environment}
        result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        return " ".join(result.stdout.split())

    return show


def test_make_passes_only_what_is_set(make):
    assert make("run-all", PROFILE="full", DEVICE="x").endswith("python tools/run_all.py")
    shown = make("run-all", "DATA=my photos", "ONLY=02 05", "SEED=0", "JOBS=2")
    assert shown.endswith('run_all.py --data "my photos" --seed 0 --jobs 2 --only 02 05')
    assert make("test", "VENV=", "PYTHON=python") == "python tools/test.py"


def test_make_sets_up_when_it_is_time(make, tmp_path):
    assert "setup.py" not in make("run-all")
    later = time.time() + 10
    os.utime(tmp_path / "pyproject.toml", (later, later))
    assert make("run-all").startswith("python3 tools/setup.py .venv ")
    assert "setup.py" not in make("run-all", "VENV=")
    shown = make("test-browser", "TORCH=cpu", "TESTED=1", TORCH="cuda")
    assert shown.startswith("python3 tools/setup.py .venv --torch cpu --tested ")
    assert "setup.py .venv browser --torch cpu --tested" in shown


def test_make_alone_lists_every_target():
    if not shutil.which("make"):
        pytest.skip("no make here")
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True).stdout
    targets = (
        "help setup run-all test lint lab data refresh student grade test-browser test-device site "
        "slides reference-runs bench"
    )
    found = [line.split()[0] for line in shown.splitlines()[1:18]]
    assert found == [*targets.split(), "clean"]


def test_a_wrong_step_of_the_tests_is_refused():
    command = [sys.executable, str(ROOT / "tools" / "test.py"), "everything"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "no step everything" in result.stderr


def test_a_failing_command_fails_its_step_and_the_whole(monkeypatch, capfd):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("steps", ROOT / "tools" / "test.py")
    spec.loader.exec_module(steps := importlib.util.module_from_spec(spec))
    commands = {"lint": ["-c 1/0", "-c pass"], "unit": ["-c pass"], "notebooks": ["-c 1/0"]}
    monkeypatch.setattr(steps, "STEPS", commands)
    monkeypatch.setattr(sys, "argv", ["test.py"])
    assert steps.main() == 1
    summary = re.findall(r"(?m)^(\w+) +(FAILED|ok) +\d+ s$", capfd.readouterr().out)
    assert summary == [("lint", "FAILED"), ("unit", "ok"), ("notebooks", "FAILED")]


def test_reference_runs_say_what_is_to_do(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(reference_runs, "BUILD", tmp_path)
    monkeypatch.setattr(sys, "argv", ["reference_runs.py", "--list", "--only", "fast-recipe"])
    assert reference_runs.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [f"fast-recipe-seed{i}" for i in range(3)]
    assert all("to do" in line for line in lines)
    monkeypatch.setattr(sys, "argv", ["reference_runs.py", "--only", "slow"])
    with pytest.raises(SystemExit, match="2"):
        reference_runs.main()
    assert "no run begins with slow" in capsys.readouterr().err


@pytest.mark.slow
def test_reference_runs_train_resume_and_collect(capsys, monkeypatch, tmp_path):
    """Two small runs on the shapes: one complete run is left alone the second time."""
    net = '{"growth_rate": 4, "block_config": [1, 1], "num_init_features": 8}'
    options = f"--net '{net}' --recipe fast --epochs 1 --limit 64"
    tiny = {
        "a-0": reference_runs.Reference(options, keep_checkpoint=True, keep_answers=True),
        "a-1": reference_runs.Reference(f"{options} --seed 1"),
    }
    monkeypatch.setattr(reference_runs, "RUNS", tiny)
    monkeypatch.setattr(reference_runs, "BUILD", tmp_path / "build")
    monkeypatch.setattr(reference_runs, "RECORDED", tmp_path / "recorded")
    arguments = ["reference_runs.py", "--data", "shapes", "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--only", "a-0"])
    assert reference_runs.main() == 0
    monkeypatch.setattr(sys, "argv", arguments)
    assert reference_runs.main() == 0
    said = capsys.readouterr().out
    assert said.count("a-0  ") == 1 and said.count("a-1  ") == 1 and "FAILED" not in said
    names = sorted(path.name for path in (tmp_path / "recorded").iterdir())
    assert names == ["a-0.answers.pt", "a-0.json", "a-0.mirrored.answers.pt", "a-0.pt", "a-1.json"]
    alone, both = (
        torch.load(tmp_path / "recorded" / name, weights_only=True)["logits"]
        for name in ("a-0.answers.pt", "a-0.mirrored.answers.pt")
    )
    assert alone.shape == both.shape and not torch.equal(alone, both)
    found = json.loads((tmp_path / "recorded" / "a-1.json").read_text())
    assert found["seed"] == 1 and "--seed 1" in found["command"]

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "recorded").iterdir()}
    assert reference_runs.main() == 0  # nothing to train, nothing to collect
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "recorded").iterdir()}


@pytest.fixture
def tiny_queue(monkeypatch, tmp_path):
    monkeypatch.setattr(reference_runs, "RUNS", {"a": reference_runs.Reference("")})
    monkeypatch.setattr(reference_runs, "BUILD", tmp_path)
    return reference_runs.Queue("shapes", "cpu", 1)


def test_a_stop_while_a_run_starts_stops_it(tiny_queue, monkeypatch):
    def popen(*arguments, _real=subprocess.Popen, **options):
        tiny_queue.stop()  # between the look whether to stop and the start
        return _real(*arguments, **options)

    tiny_queue.command = lambda name: ["-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(subprocess, "Popen", popen)
    assert tiny_queue.train("a") == -signal.SIGTERM


STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen(["sleep", "777124"], start_new_session=True)
print(worker.pid, flush=True)
worker.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_insisting_kills_the_workers_too(tiny_queue, tmp_path):
    tiny_queue.command = lambda name: ["-c", STUBBORN]
    with ThreadPoolExecutor(1) as pool:
        code = pool.submit(tiny_queue.train, "a")
        log = tmp_path / "a" / "log.txt"
        wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
        tiny_queue.stop()
        assert not code.done()
        tiny_queue.stop()
        assert code.result(60) == -signal.SIGKILL
    wait_until(lambda: not alive(int(log.read_text())))


@pytest.mark.parametrize("tool", [reuse, transfer])
def test_measurements_of_other_pictures_are_not_mixed(tool, monkeypatch, tmp_path):
    found = json.loads(tool.TO.read_text())
    found["about"]["data"]["sha256"] = "0" * 64
    monkeypatch.setattr(tool, "TO", tmp_path / "found.json")
    tool.TO.write_text(json.dumps(found))
    monkeypatch.setattr(sys, "argv", ["tool", "--data", "shapes"])
    if tool is transfer:  # it draws its own pictures, and takes long for that
        monkeypatch.setattr(sys, "argv", ["tool"])
        others = (SimpleNamespace(digest="1" * 64),) * 3
        monkeypatch.setattr(transfer, "pictures", lambda _: others)
    with pytest.raises(SystemExit, match="are of other pictures"):
        tool.main()


def test_the_rates_of_transfer_are_chosen_by_pictures_held_out(monkeypatch, tmp_path):
    some = transfer.data.load_images("shapes", limit=60)
    notebook = SimpleNamespace(SHIPPED={}, PASSES={20: 1, 100: 1})
    notebook.choose, notebook.taught = lambda *_: [0], lambda *_, **__: None
    for name, stub in {
        "TO": tmp_path / "found.json",
        "TRIED": {"frozen": (0.1, 0.2)},
        "SEEDS": (0,),
        "definitions": lambda _: notebook,
        "pictures": lambda _: [some.subset(slice(n)) for n in (30, 20, 10)],
        "evaluate": lambda _, batches: SimpleNamespace(accuracy=len(batches.image_set) / 100),
    }.items():
        monkeypatch.setattr(transfer, name, stub)
    monkeypatch.setattr(sys, "argv", ["transfer.py"])
    transfer.main()
    found = json.loads(transfer.TO.read_text())
    assert set(found["tried"].values()) == {20} and set(found["runs"].values()) == {10}


@pytest.mark.slow
def test_the_benchmark_compares_ways_that_take_turns(capsys, tmp_path, monkeypatch):
    ways = [bench.Way(code, "bc-10-4", 4, code) for code in ("ours", "efficient", "torchvision")]
    monkeypatch.setattr(bench, "groups_of", lambda chosen: [("tiny", ways), ("large", None)])
    options = ["--only", "tiny", "--turns", "2", "--seconds", "0.05", "--out"]
    monkeypatch.setattr(sys, "argv", ["bench.py", *options, str(tmp_path / "new" / "a.json")])
    assert bench.main() == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "new" / "a.json").read_text())
    rows = {row["name"]: row for row in found["training"]}
    assert list(rows) == ["ours", "efficient", "torchvision"] and all(name in said for name in rows)
    assert rows["ours"]["time"] == rows["ours"]["bytes"] == 1  # the plain way against itself
    assert rows["efficient"]["bytes"] < 0.9 and rows["torchvision"]["bytes"] > 0.9
    assert all(row["images_per_second"] > 0 and row["peak_MiB"] is None for row in rows.values())


def test_the_benchmark_keeps_what_it_has_measured(tmp_path, monkeypatch):
    measured = iter([[{"name": "first"}]])  # and then no more, as if the memory were full
    monkeypatch.setattr(bench, "groups_of", lambda chosen: [("one", None), ("two", None)])
    monkeypatch.setattr(bench, "compare", lambda *_: next(measured))
    monkeypatch.setattr(sys, "argv", ["bench.py", "--out", str(tmp_path / "a.json")])
    with pytest.raises(StopIteration):
        bench.main()
    assert json.loads((tmp_path / "a.json").read_text())["training"] == [{"name": "first"}]


def test_the_benchmark_times_nothing_that_is_not_equal(monkeypatch):
    ways = [bench.Way(code, "bc-10-4", 4, code) for code in ("ours", "efficient", "torchvision")]
    bench.assert_equal([*ways, bench.Way("", "bc-10-4", 4, "torchvision's efficient")])
    bench.assert_equal([bench.Way(code, "origin", 4, code) for code in ("ours", "the origin's")])
    monkeypatch.setattr(bench, "make_efficient", lambda n: setattr(n.features.norm5, "eps", 1))
    with pytest.raises(AssertionError, match="bc-10-4: efficient differs by .*: nothing is timed"):
        bench.assert_equal(ways)


def test_the_benchmark_feeds_the_same_numbers_both_ways(monkeypatch, capsys):
    some = bench.load_images("shapes", limit=64)
    monkeypatch.setattr(bench, "load_images", lambda source, limit: some)
    assert bench.feeding(1)["ratio"] > 0  # how far above 1 is for `make bench` to say


RECORDED = sorted(
    path
    for path in reference_runs.RECORDED.glob("*.json")
    if path.stem not in ("bench", "reuse", "recipe-parts", "transfer")  # of 13, 11, 14 and 15
)


def test_every_run_for_a_cpu_is_recorded():
    names = {name for name, run in reference_runs.RUNS.items() if run.device == "cpu"}
    assert names <= {path.stem for path in RECORDED}


def test_the_readmes_accuracies_are_the_recorded_ones():
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    for recipe, words in (("origin", "by the origin's recipe"), ("fast", "by ours")):
        tests = [recorded(f"{recipe}-recipe-seed{seed}")["test"] for seed in range(3)]
        assert f"{100 * sum(test['accuracy'] for test in tests) / 3:.1f} % {words}" in readme
    for name in (
        "best-240k",
        "long-240k",
        "cutout-240k",
        "faster-240k",
        "bolder-240k",
        "wide-458k",
        "four-blocks",
    ):
        run = recorded(name)
        assert f"{100 * run['test']['accuracy']:.2f} % after {run['epochs']}" in readme
        minutes = f"in {run['log'][-1]['seconds'] / 60:.0f}"
        assert name == "wide-458k" or minutes in readme  # one process alone


def test_the_readmes_speeds_are_the_recorded_ones():
    readme, found = (ROOT / "README.md").read_text("utf-8"), recorded("bench")
    assert found["about"]["date"] in readme
    rows = {(row["network"], row["name"]): row for row in found["training"]}
    for network in ("bc-100-12", "origin", "densenet121"):
        cells = []
        for way in ("torchvision's efficient", "efficient"):
            for order in ("channels first", "channels last"):
                row = rows.get((network, f"{way}, {order}"))
                cells.append(f"{row['bytes']:.2f}, {row['time']:.2f}" if row else "")
        both = [" / ".join([cells[i], cells[i + 1].partition(", ")[2]]).strip(" /") for i in (0, 2)]
        assert f"| {' | '.join(both)} |" in readme
    for way, words in (("ours", "plain"), ("efficient", "efficient")):
        assert f"{found['largest_batch'][way]['batch']} pictures {words}" in readme


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_run_is_whole_and_what_it_says(path):
    found, run = json.loads(path.read_text("utf-8")), reference_runs.RUNS.get(path.stem)
    assert run, f"RUNS in tools/reference_runs.py has no {path.stem}"
    assert run.options in found["command"]
    options = shlex.split(run.options)
    recipe = options[options.index("--recipe") + 1]
    asked = RECIPES[recipe] if recipe in RECIPES else Recipe(**json.loads(recipe))
    assert Recipe(**found["recipe"]) == asked  # a recipe that changed asks for new runs
    names = ("CIFAR-10, JPEG copy", "CIFAR-10")  # ours, and CIFAR's own as `make data` fetches it
    assert found["data"]["name"] in names and len(found["data"]["sha256"]) == 64
    assert len(found["log"]) == found["epochs"]
    last = found["log"][-1]
    assert last["images"] == found["epochs"] * found["data"]["images"]
    if "--validation" in run.options:
        assert found["test"] is None and found["data"]["images"] == 20_000
        assert 0.1 < last["validation_accuracy"] < 1
    else:
        assert found["test"]["images"] == 10_000 and found["data"]["images"] == 50_000
    answers, checkpoint = path.with_suffix(".answers.pt"), path.with_suffix(".pt")
    assert answers.exists() == run.keep_answers and checkpoint.exists() == run.keep_checkpoint
    mirrored = path.with_suffix(".mirrored.answers.pt")
    assert mirrored.exists() == (run.keep_answers and run.keep_checkpoint)
    if mirrored.exists():
        both = torch.load(mirrored, weights_only=True)
        alone = torch.load(answers, weights_only=True)
        assert torch.equal(both["labels"], alone["labels"])
        alike = (both["logits"].argmax(1) == alone["logits"].argmax(1)).double().mean()
        assert 0.9 < alike < 1
    if run.keep_answers:
        kept = torch.load(answers, weights_only=True)
        right = (kept["logits"].float().argmax(1) == kept["labels"]).double().mean().item()
        assert right == pytest.approx(found["test"]["accuracy"], abs=0.001)  # halves can tie
        assert kept["labels"].bincount().tolist() == [1000] * 10
    if run.keep_checkpoint:
        assert checkpoint.stat().st_size <= reference_runs.LARGEST
        network = build_network(load_checkpoint(checkpoint))
        assert load_checkpoint(checkpoint)["test"] == found["test"]
        assert sum(p.numel() for p in network.parameters()) <= 240_000


def test_feature_reuse_is_measured_by_the_functions_of_its_notebook():
    notebook, found = reuse.definitions(reuse.NOTEBOOK), recorded("reuse")
    about = found.pop("about")
    assert about["data"]["name"] == "CIFAR-10, JPEG copy" and not hasattr(notebook, "net")
    first = {f"{kind}-{seed}" for kind in ("untrained", *notebook.SETTINGS) for seed in range(3)}
    later = {f"later {kind}-{seed}" for kind in notebook.SETTINGS for seed in (3, 4, 5)}
    assert set(found) == first | later
    assert all(set(sum(notebook.PAIRS, ())) <= set(found[name]["removed"]) for name in later)
    for name, run in found.items():
        sizes = [len(reader.sizes) for reader in notebook.readers(notebook.build(0))]
        assert all([len(values) for values in run[key]] == sizes for key in notebook.MEASURES)
        if name.startswith("untrained"):  # its weights are known: measure them again
            everyone = notebook.readers(notebook.build(int(name[-1])))
            for again, before in zip(map(notebook.by_weight, everyone), run["weight"], strict=True):
                assert again == pytest.approx(before, rel=1e-3)
        else:
            assert all(len(curve) == len(notebook.STEPS) for curve in run["removed"].values())


def test_transfer_is_measured_by_the_functions_of_its_notebook():
    notebook, found = reuse.definitions(transfer.NOTEBOOK), recorded("transfer")
    assert found["about"]["passes"] == {str(n): passes for n, passes in notebook.PASSES.items()}
    cases = itertools.product(transfer.TRIED, notebook.PASSES, transfer.SEEDS)
    assert set(found["runs"]) == {f"{way}, {count}, {seed}" for way, count, seed in cases}
    assert all(0 <= result <= 100 for result in found["runs"].values())
    for way, numbers in transfer.TRIED.items():  # each was chosen by the tries, and no other way
        for count in notebook.PASSES:
            near = max(n for n in transfer.SIZES[way] if n <= max(count, transfer.SIZES[way][0]))
            tried = {n: found["tried"][f"{way}, {near}, {n}"] for n in numbers}
            assert tried[found["chosen"][f"{way}, {count}"]] == max(tried.values())


def test_the_ablations_are_the_networks_that_they_are_called():
    for name, arguments in reference_runs.ABLATIONS.items():
        kind, growth_rate, _ = name.split("-")
        network = DenseNet(**arguments)
        assert network.arguments["growth_rate"] == int(growth_rate)
        assert (arguments["bn_size"] == 4) == ("b" in kind.replace("basic", ""))
        assert (arguments["compression"] == 0.5) == ("c" in kind.replace("basic", ""))
        assert 46_000 < sum(p.numel() for p in network.parameters()) < 66_000


def test_drawings_are_stored_small_and_pictures_as_they_are():
    def png(image):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode() + "\n"

    drawing = Image.new("RGB", (200, 100), "white")
    drawing.paste((0, 114, 178), (20, 20, 90, 60))
    small = refresh.smaller(png(drawing))
    again = Image.open(io.BytesIO(base64.b64decode(small))).convert("RGB")
    assert len(small) < len(png(drawing)) and again.tobytes() == drawing.tobytes()
    assert refresh.smaller(small) == small
    noise = png(Image.effect_noise((200, 100), 80).convert("RGB"))
    picture = png(Image.merge("RGB", [Image.effect_noise((200, 100), 80) for _ in range(3)]))
    assert refresh.smaller(picture) == picture and refresh.smaller(noise) != noise
