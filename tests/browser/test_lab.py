"""JupyterLab, started as `make lab` starts it, runs notebooks in a real browser.

Its folder is a copy, so that what is saved there leaves the repository as it is.
"""

import contextlib
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import psutil
import pytest

from tools.refresh import STORED, normalise
from tools.student import student_copy

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIRST, SECOND = "00_start_here.ipynb", "03_dense_block.ipynb"  # the one prints while it trains
TRAINS, EXERCISE = "learn", "exercise-1-code"  # ids of cells of the first
START, FINISH = 120_000, 400_000  # milliseconds, for a busy machine; an idle one needs a tenth
IDLE = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
WAITING = ".jp-InputArea-prompt:text-is('[*]:')"


class Lab:
    """A running JupyterLab: its process, its folder, and its own word on where it listens."""

    def __init__(self, folder):
        self.root, self.runtime = folder / "root", folder / "runtime"
        (self.root / "notebooks").mkdir(parents=True)
        for path in NOTEBOOKS:
            shutil.copy(path, self.root / "notebooks")
        copy = student_copy(nbformat.read(ROOT / "notebooks" / SECOND, as_version=4))
        nbformat.write(copy, self.root / "notebooks" / SECOND)
        own = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "DATA")}
        own |= {"JUPYTER_RUNTIME_DIR": str(self.runtime), "IPYTHONDIR": str(folder / "ipython")}
        command = [sys.executable, str(ROOT / "tools" / "lab.py"), "--no-browser", "--port=0"]
        command += ["--allow-root", f"--ServerApp.root_dir={self.root}"]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = psutil.Popen(
                command, env={**os.environ, **STORED, **own}, stdout=log, stderr=log
            )

    def wait(self):
        """Wait until it answers, and read where and with which token."""
        deadline = time.monotonic() + START / 1000
        while time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(0.1)
            with contextlib.suppress(
                StopIteration, ValueError, OSError
            ):  # no file, half, no answer
                told = json.loads(next(self.runtime.glob("jpserver-*.json")).read_text())
                with urllib.request.urlopen(f"{told['url']}api", timeout=10):
                    self.token, self.url = told["token"], told["url"]
                    return self
        raise AssertionError(f"JupyterLab does not answer:\n{self.log.read_text()}")

    def open(self, page, name, workspace):
        """Open a notebook and wait for its kernel."""
        page.set_default_timeout(START)
        address = f"{self.url}lab/workspaces/{workspace}/tree/notebooks/{name}"
        page.goto(f"{address}?token={self.token}")
        page.wait_for_selector(".jp-CodeCell")
        page.wait_for_selector("text='Python 3 (ipykernel) | Idle'")

    def end(self):
        """Ask it to end, and return the processes that it leaves behind."""
        started = self.process.children(recursive=True)
        self.process.terminate()
        self.process.wait(30)
        _, left = psutil.wait_procs(started, 10)
        for process in left:
            process.kill()
        return left


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """JupyterLab on a copy of the notebooks, the second one a student's."""
    running = Lab(tmp_path_factory.mktemp("lab"))
    try:
        yield running.wait()
    finally:
        left = running.end()
    assert not left, f"still there after JupyterLab had ended: {left}"


def test_it_answers_only_here_and_only_to_those_with_the_token(lab):
    listening = [c.laddr.ip for c in lab.process.net_connections() if c.status == "LISTEN"]
    assert listening == ["127.0.0.1"] and len(lab.token) > 30
    for token, status in [("", 403), ("?token=wrong", 403), (f"?token={lab.token}", 200)]:
        try:
            with urllib.request.urlopen(f"{lab.url}api/contents{token}") as answer:
                assert answer.status == status
        except urllib.error.HTTPError as error:
            assert error.code == status


def seen(name, width, needed):
    """Return what can be read of a name that needs more pixels than there are."""
    return name if needed <= width else name[: int(len(name) * width / needed) - 3]  # for ...


def test_names_in_the_file_list_can_be_told_apart(lab, offline, complaints):
    offline.set_default_timeout(START)
    offline.goto(f"{lab.url}lab/workspaces/names/tree/notebooks?token={lab.token}")
    offline.wait_for_selector(".jp-DirListing-itemText")
    script = "all => all.map(x => [x.innerText, x.clientWidth, x.scrollWidth])"
    rows = offline.eval_on_selector_all(".jp-DirListing-itemText", script)
    names = [seen(*row) for row in rows]
    assert len(names) == len(NOTEBOOKS)
    assert all(len(name) >= 15 or name.endswith(".ipynb") for name in names), names
    stems = [name[3:] for name in names]  # without their numbers
    assert not any(a != b and b.startswith(a) for a in stems for b in stems), names
    assert len(set(stems)) == len(stems) and complaints == []


def test_what_can_be_read_of_a_name():
    assert seen("03_dense_block.ipynb", 116, 116) == "03_dense_block.ipynb"
    assert seen("03_dense_block.ipynb", 116, 143) == "03_dense_bloc"  # as JupyterLab showed it


def run_all(page):
    """Choose "Run All Cells" in the menu."""
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click("[data-command='runmenu:run-all']")
    page.wait_for_selector(WAITING, state="attached")


def wait_for_the_end(page):
    page.wait_for_selector(WAITING, state="detached", timeout=FINISH)
    page.wait_for_selector(IDLE, timeout=FINISH)


def saved(page, path):
    """Save the notebook by Ctrl-S and return what is in its file then."""
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(START // 100):
        page.wait_for_timeout(100)
        if path.stat().st_mtime_ns != before:
            page.wait_for_timeout(500)  # until it is whole
            return path.read_text("utf-8")
    raise AssertionError(f"{path.name} has not been saved")


def without_outputs(text):
    """Return a notebook in normal form, but with nothing in it that running has made."""
    notebook = nbformat.reads(normalise(text), as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def outputs(text, kind):
    """Return the outputs of a kind, such as "stream", of all cells."""
    cells = nbformat.reads(text, as_version=4).cells
    return [o for cell in cells for o in cell.get("outputs", []) if o.output_type == kind]


def test_two_notebooks_run_at_once_and_are_saved_unharmed(lab, offline, complaints):
    first, second = offline, complaints.watch(offline.context.new_page())
    asked = []
    offline.context.on("request", lambda request: asked.append(request.url))
    original = (lab.root / "notebooks" / FIRST).read_text("utf-8")
    ids = [cell["id"] for cell in json.loads(original)["cells"]]
    lab.open(first, FIRST, "first")
    lab.open(second, SECOND, "second")
    run_all(first)
    cell = first.locator(".jp-Notebook .jp-Cell").nth(ids.index(TRAINS))
    cell.locator(".jp-OutputArea-output").first.wait_for(state="attached", timeout=FINISH)
    assert cell.locator(WAITING).count() == 1  # lines appear while it trains
    run_all(second)
    wait_for_the_end(first)
    wait_for_the_end(second)
    for page in (first, second):
        assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0
        assert page.locator("[data-mime-type*=error], [data-mime-type*=stderr]").count() == 0

    drawn = first.eval_on_selector_all(
        ".jp-OutputArea-output img", "all => all.map(image => image.naturalWidth)"
    )
    assert len(drawn) == len(outputs(original, "display_data")) and min(drawn) > 100
    text = saved(first, lab.root / "notebooks" / FIRST)
    assert without_outputs(text) == without_outputs(original)
    assert len(outputs(text, "stream")) >= len(outputs(original, "stream"))
    assert all(o.metadata["image/png"]["alt"] for o in outputs(text, "display_data"))

    student = saved(second, lab.root / "notebooks" / SECOND)
    said = "".join(output.text for output in outputs(student, "stream"))
    exercises = sum(cell["id"].endswith("-code") for cell in json.loads(student)["cells"])
    assert said.count("not attempted yet") == exercises > 2 and not outputs(student, "error")

    fold = first.locator("details").first
    assert fold.get_attribute("open") is None
    fold.locator("summary").click()
    assert fold.get_attribute("open") is not None
    solution = first.locator(".jp-Notebook .jp-Cell").nth(ids.index(EXERCISE))
    assert solution.locator(".cm-content").count() == 0  # folded
    solution.locator(".jp-Placeholder").click()
    assert "BEGIN SOLUTION" in solution.locator(".cm-content").inner_text()
    assert not [url for url in asked if "lab/api/news" in url or "lab/api/update" in url]
    assert complaints == []
    second.close()
