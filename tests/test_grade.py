"""The grading tool, on a tiny notebook of ours and on everything that a class may hand in."""

import codecs
import copy
import csv
import json
import os
import subprocess
import sys
import time
import unicodedata
from datetime import datetime
from pathlib import Path

import nbformat
import pytest
from house_rules import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import grade, sandbox, submissions
from tools.student import student_copy

if not hasattr(os, "fork"):
    pytest.skip("grading needs os.fork", allow_module_level=True)

OURS = {
    "setup": "from densenet_lib import checks\n\nfactor = 2",
    "helper": "def times(x):\n    return factor * x",
    "double-code": (
        "def double(x):\n    ### BEGIN SOLUTION\n    return times(x)\n    ### END SOLUTION"
    ),
    "double-test": (
        'with checks.exercise("1.1"):\n'
        "    for x in (0, 3):\n"
        "        answer = double(x)\n"
        "        assert checks.same(answer, 2 * x), f'double({x}) is {2 * x}, not {answer}'"
    ),
    "area-code": (
        "def area(width, height):\n"
        "    ### BEGIN SOLUTION\n    return width * height\n    ### END SOLUTION"
    ),
    "area-test": (
        'with checks.exercise("1.2"):\n    assert area(2, 3) == 6, "2 x 3 is 6"\nprint("2 x 3 = 6")'
    ),
}
DOUBLE, AREA = (
    "def double(x):\n    return x + x",
    "def area(width, height):\n    return height * width",
)
SECONDS = 10  # an exercise that hangs costs them; under a heavy load a good one needs some


def ours():
    """Return our tiny notebook."""
    cells = [new_code_cell(source, id=cell_id) for cell_id, source in OURS.items()]
    return new_notebook(cells=[new_markdown_cell("# Tiny", id="title"), *cells])


def theirs(**sources):
    """Return a student's copy, with answers to both exercises or with what is given for a cell."""
    notebook = student_copy(ours())
    sources = {"double_code": DOUBLE, "area_code": AREA, **sources}
    for cell in notebook.cells:
        cell.source = sources.get(cell.id.replace("-", "_"), cell.source)
    return notebook


def second(notebook):
    """Another notebook of the series, with ids of its own, whose set-up fails."""
    for cell in notebook.cells:
        cell.id += "-2"
    notebook.cells[1].source = "raise ValueError"
    return notebook


def without(notebook, *cell_ids):
    notebook.cells = [cell for cell in notebook.cells if cell.id not in cell_ids]
    return notebook


def renamed(notebook):
    """All ids are lost, and an answer was split over two cells."""
    for number, cell in enumerate(notebook.cells):
        cell.id = f"lost-{number}"
        if cell.source == DOUBLE:
            cell.source = "def double(x):\n    return plus(x, x)"
    helper = new_code_cell("import math\ndef plus(a, b): return math.fsum([a, b])\nwhile True: 1")
    notebook.cells.insert(1, helper)
    return notebook


def added_below(notebook):
    """The answer stands in a cell of its own; the one that was meant for it is as it was."""
    cells = {cell.id: cell for cell in notebook.cells}
    cells["double-code"].source = 'def double(x):\n    raise NotImplementedError("your turn")'
    notebook.cells.append(new_code_cell(DOUBLE, id="mine"))
    return notebook


def constants(notebook):
    """The answer needs values of another cell, and none of those that only look like it."""
    cells = {cell.id: cell for cell in notebook.cells}
    cells["double-code"].source = "def double(x):\n    y = half(4) * x\n    return y * ONE"
    more = "ONE: int = 1\nhalf = lambda v: v / factor\nx = y = input()\nfactor = 9\nv = 1 / 0"
    notebook.cells.append(new_code_cell(more, id="values"))
    return notebook


SAID = "Exercise 1.2: correct."
HANG = "def double(x):\n    while True: pass"
ENDLESS = "while True:\n    print('again' * 1000)\n"
CHEAT = (
    "checks.same = lambda *a: True\ndef nothing(n):\n    import contextlib\n"
    "    return contextlib.nullcontext()\n"
    "checks.exercise = nothing\nimport builtins\nbuiltins.abs = None\nfactor = 5\n"
    "print('Exercise 1.1: correct.')\ndef double(x):\n    return 7"
)
SWAP = (
    "import contextlib\n\nclass checks:\n    def exercise(number):\n"
    "        print(f'Exercise {number}: correct.')\n"
    "        return contextlib.suppress(Exception)\n\n"
    "    def same(*_):\n        return True\n\ndef double(x):\n    return 7"
)
BUILTINS = "import builtins\nbuiltins.range = lambda *a: ()\nbuiltins.AssertionError = int\n" + (
    "def double(x):\n    return 7"
)
EXAM = f"seen = open({str(ROOT / 'exam' / 'questions.md')!r}).read()\n"
TESTS = f"seen = open({__file__!r}).read()\n"  # right answers lie beside it
LEAVES = (
    "import subprocess, sys\ncommand = [sys.executable, '-c', 'import time; time.sleep(777123)']\n"
    "subprocess.Popen(command, start_new_session=True)\n" + DOUBLE
)
MANY = 80 if sandbox.can_be_nobody() else 20  # more than the limit, where there can be one
BOMB = f"import subprocess\nfor _ in range({MANY}): subprocess.Popen(['sleep', '777123'])\n"
BOMB += DOUBLE
FILL = "for n in range(99):\n    open(f'{n}.bin', 'wb').write(bytes(2**20))\n" + DOUBLE
LARGE = "with open('1.bin', 'wb') as f:\n    while True: f.write(bytes(2**20))\n"
EDIT = (
    "import pathlib\nfor path in pathlib.Path({folder!r}).rglob('*'):\n"
    "    try:\n        path.write_text('spoilt')\n    except OSError:\n        pass\n"
)
CALL = (
    "import socket\nline = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "line.connect(('192.0.2.1', 9))\n"
)
PEEK = "import pathlib\nseen = list(pathlib.Path({folder!r}).iterdir())\nassert not seen\n" + DOUBLE
CRASH = "import ctypes\nctypes.string_at(0)\n"
FINE = ("correct", "correct", "")
ACCENTS = unicodedata.normalize("NFD", "Zoë Šťastná")  # as macOS writes them

# file: (notebook or text, outcome of 1.1, of 1.2, remark), each the beginning of what is expected
PLANTED = {
    "anna_01.ipynb": (theirs(), *FINE),
    "empty_01.ipynb": (student_copy(ours()), "not attempted", "not attempted", ""),
    "wrong_01.ipynb": (
        theirs(double_code="def double(x):\n    return x**2"),
        "wrong: double(3) is 6, not 9",
        "correct",
        "",
    ),
    "late_01.ipynb": (theirs(), "correct", "correct", "late by 1:00:00"),
    "broken_01.ipynb": ('{"cells": [', "", "", "not graded: not a notebook (JSONDecodeError"),
    "deep_01.ipynb": ("[" * 200_000, "", "", "not graded: not a notebook"),
    "other-json_01.ipynb": ('{"cells": [3]}', "", "", "not graded: not a notebook (TypeError"),
    "syntax_01.ipynb": (
        theirs(double_code="def double(x) return 2"),
        "error: SyntaxError",
        "correct",
        "",
    ),
    "hangs_01.ipynb": (theirs(double_code=HANG), "timed out: 10 s", "correct", ""),
    "endless_01.ipynb": (
        theirs(double_code=ENDLESS + DOUBLE),
        "error: OSError: more than 1,048,576 characters",
        "correct",
        "",
    ),
    "deleted_01.ipynb": (without(theirs(), "double-code"), "missing", "correct", ""),
    "emptied_01.ipynb": (theirs(double_code=""), "missing", "correct", ""),
    "renamed_01.ipynb": (renamed(theirs()), *FINE),
    "below_01.ipynb": (added_below(theirs()), *FINE),
    "magic_01.ipynb": (theirs(double_code=f"%matplotlib inline\n{DOUBLE}\n!ls"), *FINE),
    "cheat_01.ipynb": (
        theirs(double_code=CHEAT, double_test="print('Exercise 1.1: correct.')"),
        "wrong: double(0) is 0, not 7",
        "correct",
        "",
    ),
    "swaps_01.ipynb": (theirs(double_code=SWAP), "wrong: double(0) is 0, not 7", "correct", ""),
    "builtins_01.ipynb": (theirs(double_code=BUILTINS), "wrong: double(0)", "correct", ""),
    "exits_01.ipynb": (
        theirs(double_code="exit()\n" + DOUBLE, area_code="import os\nos._exit(3)\n" + AREA),
        "error: ",
        "error: it ended its process (exit code 3)",
        "",
    ),
    "crashes_01.ipynb": (
        theirs(double_code=CRASH + DOUBLE, area_code="raise SystemExit\n" + AREA),
        "error: it ended its process (signal 11)",
        "error: SystemExit",
        "",
    ),
    "asks_01.ipynb": (theirs(double_code="input()\n" + DOUBLE), "error: EOFError", "correct", ""),
    "hog_01.ipynb": (
        theirs(double_code="x = bytearray(9 * 2**30)\n" + DOUBLE),
        "error: ",
        "correct",
        "",
    ),
    "large_01.ipynb": (theirs(double_code=LARGE + DOUBLE), "error: OSError", "correct", ""),
    "leaves_01.ipynb": (theirs(double_code=LEAVES), *FINE),
    "essay.docx": ("Dear teacher", "", "", "not graded: a file .docx, not an .ipynb"),
    "constants_01.ipynb": (constants(theirs()), *FINE),
    "says-so_01.ipynb": (
        theirs(area_code=f"def area(w, h):\n    print({SAID!r})\n    raise NotImplementedError"),
        "correct",
        "not attempted",
        "",
    ),
    "01_tiny.ipynb": (theirs(), "correct", "correct", "whose is it?"),
    "01_tiny (1).ipynb": (theirs(), "correct", "correct", "whose is it?"),
    "berta_01.ipynb": (theirs(), "correct", "correct", "one of 2 files"),
    "Berta_01 (1).ipynb": (theirs(), "correct", "correct", "one of 2 files"),
    f"{ACCENTS}_01_tiny.ipynb": (theirs(), *FINE),
    "José/homework.ipynb": (theirs(), *FINE),
    "=1+1_01.ipynb": (theirs(), *FINE),
    "carl_02.ipynb": (second(theirs()), "", "", "not graded: our cell setup-2 fails: ValueError"),
    "mystery.ipynb": (renamed(theirs()), "", "", "not graded: which notebook is it?"),
}
BOUNDED = "error: BlockingIOError" if sandbox.can_be_nobody() else "correct"
WALLED = {  # where the system has namespaces
    "bomb_01.ipynb": (theirs(double_code=BOMB), BOUNDED, "correct", ""),
    "fills_01.ipynb": (theirs(double_code=FILL), "error: OSError: [Errno 28]", "correct", ""),
    "edits_01.ipynb": (theirs(double_code=EDIT + DOUBLE), *FINE),
    "peeks_01.ipynb": (theirs(double_code=PEEK), *FINE),
    "looks-up_01.ipynb": (
        theirs(double_code=EXAM + DOUBLE, area_code=TESTS + AREA),
        "error: FileNotFoundError",
        "error: FileNotFoundError",
        "",
    ),
    "calls_01.ipynb": (theirs(double_code=CALL + DOUBLE), "error: OSError: [Errno 101]", *FINE[1:]),
}


def python(code):
    """Run code that uses the sandbox in a process that has no threads; return what it prints."""
    command = [sys.executable, "-c", f"from tools import sandbox\n{code}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout


LIMITS = ["--seconds", str(SECONDS), "--in-all", "60"]


def run(folder, *options, limits=LIMITS):
    command = [sys.executable, str(ROOT / "tools" / "grade.py"), "in", "--out", "grades.csv"]
    command += ["--notebooks", "ours", *limits, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8")


def table(folder):
    with (folder / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["file"].removeprefix("./"): row for row in csv.DictReader(file)}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def tiny(tmp_path):
    """Return our tiny notebook, 01_tiny.ipynb, as it is read to grade others by it."""
    nbformat.write(ours(), tmp_path / "01_tiny.ipynb")
    return submissions.Ours(tmp_path / "01_tiny.ipynb")


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Grade what is planted; return the folder, what was planted, and the program's result."""
    folder = tmp_path_factory.mktemp("class")
    (folder / "ours").mkdir()
    nbformat.write(ours(), folder / "ours" / "01_tiny.ipynb")
    nbformat.write(second(ours()), folder / "ours" / "02_ours_fails.ipynb")
    walls = python("print(sandbox.run(str, 60))") == "True\n"
    planted = PLANTED | (WALLED if walls else {})
    for name, (content, *_) in planted.items():
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:
            content = copy.deepcopy(content)
            for cell in content.cells:
                cell.source = cell.source.replace("{folder!r}", repr(str(folder / "in")))
            path.write_text(json.dumps(content))
    deadline = time.mktime((2026, 11, 30, 18, 0, 0, 0, 0, -1))
    for path in (folder / "in").rglob("*.ipynb"):
        os.utime(path, (deadline, deadline + 3600 * path.name.startswith("late")))
    (folder / "in" / ".DS_Store").touch()
    before = contents(folder / "in")
    result = run(folder, "--deadline", "2026-11-30 18:00")
    assert result.returncode == 1, result.stdout + result.stderr  # for a notebook of ours fails
    assert not walls or contents(folder / "in") == before
    return folder, planted, result


@pytest.mark.parametrize("name", [*PLANTED, *WALLED])
def test_every_file_gets_its_row(graded, name):
    folder, planted, _ = graded
    if name not in planted:
        pytest.skip("no namespaces on this system")
    row, (_, first, second, remark) = table(folder)[name], planted[name]
    found = (row["exercise 1"], row["exercise 2"], row["remark"])
    for seen, expected in zip(found, (first, second, remark), strict=True):
        assert seen.startswith(expected) and bool(seen) == bool(expected), found
    points = f"{(first, second).count('correct')} of 2" if first else " of "
    assert f"{row['correct']} of {row['of']}" == points


def test_there_is_a_row_for_each_and_no_more(graded):
    folder, planted, result = graded
    assert table(folder).keys() == planted.keys()
    assert f"{len(planted)} files, " in result.stdout
    assert f"[{sum(bool(row[1]) for row in planted.values()) + 1}/" in result.stdout
    assert "hangs_01.ipynb: 1 of 2\n" in result.stdout


def test_students_are_told_apart(graded):
    rows = table(graded[0])
    assert rows["berta_01.ipynb"]["student"] == "berta"
    assert rows["Berta_01 (1).ipynb"]["student"] == "Berta"  # and yet the same, as the remarks say
    assert rows[f"{ACCENTS}_01_tiny.ipynb"]["student"] == "Zoë Šťastná"
    assert rows["José/homework.ipynb"]["student"] == "José"
    # Without this mark Excel takes the letters for those of another alphabet.
    assert (graded[0] / "grades.csv").read_bytes().startswith(codecs.BOM_UTF8)


def test_neither_a_file_nor_a_student_is_a_formula(graded):
    assert "\n./=1+1_01.ipynb,1+1," in (graded[0] / "grades.csv").read_text("utf-8-sig")


def test_the_summary_counts_by_exercise(graded):
    folder, planted, result = graded
    line = next(line for line in result.stdout.splitlines() if line.startswith("1.2"))
    second = [row[2].partition(":")[0] for row in planted.values() if row[1]]
    assert line.split()[1:7] == [str(second.count(kind)) for kind in grade.OUTCOMES]
    assert "1 x error: " in line


WITHOUT_NAMESPACES = """
import os, subprocess, time
sandbox.libc = None

def hang(walls):
    subprocess.Popen(["sleep", "777123"])
    time.sleep(99)

def outcome(function, seconds):
    try:
        return sandbox.run(function, seconds)
    except (TimeoutError, ChildProcessError) as error:
        return repr(error)

print(outcome(lambda walls: f"{walls} {os.listdir()}", 60))
print(outcome(lambda walls: os._exit(7), 60))
print(outcome(lambda walls: os.kill(os.getpid(), 9), 60))
print(outcome(hang, 2))
"""


def test_without_namespaces_there_are_limits_all_the_same():
    assert python(WITHOUT_NAMESPACES).splitlines() == [
        "False []",
        "ChildProcessError('exit code 7')",
        "ChildProcessError('signal 9')",
        "TimeoutError()",
    ]


def test_an_old_kernel_which_leaves_files_open_is_told():
    assert python("sandbox.MOUNT_SETATTR = 100_000\nprint(sandbox.run(str, 60))") == "False\n"


@pytest.mark.parametrize(("zone", "remarks"), [("+00:00", ["late by 1:00:00"]), ("-02:00", [])])
def test_a_deadline_may_have_a_time_zone(tiny, tmp_path, zone, remarks):
    path = tmp_path / "anna_01.ipynb"
    path.write_text(json.dumps(theirs()))
    os.utime(path, (datetime.fromisoformat("2026-11-30T18:00+00:00").timestamp(),) * 2)
    deadline = datetime.fromisoformat(f"2026-11-30T17:00{zone}")
    assert submissions.Submission(path, tmp_path, [tiny], deadline).remarks == remarks


def test_a_notebook_has_a_limit_in_all(tiny, monkeypatch):
    clock = [0.0]

    def hangs(sources, number, ours, hidden, seconds):
        clock[0] += seconds
        return f"{seconds:g} s"

    monkeypatch.setattr(grade, "monotonic", lambda: clock[0])
    monkeypatch.setattr(grade, "behind_walls", hangs)
    cells = [("double-code", DOUBLE), ("area-code", AREA)]
    assert grade.grade(cells, tiny, [], 30, 40) == ["30 s", "10 s"]
    none_left = "timed out: 30 s for the whole notebook"
    assert grade.grade(cells, tiny, [], 30, 30) == ["30 s", none_left]


def test_neither_a_link_nor_a_huge_file_is_read(tiny, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "anna_01.ipynb").symlink_to(tmp_path / "01_tiny.ipynb")
    with (folder / "berta_01.ipynb").open("wb") as file:
        file.truncate(submissions.LARGEST + 2**20)  # a hole, which takes no room
    link, huge = submissions.submissions_in(folder, [tiny])
    assert link.remarks == ["not graded: a link or a device, not a file"] and not link.cells
    assert huge.remarks == ["not graded: 51 MiB, more than 50"] and not huge.digest


def test_ids_that_all_notebooks_have_do_not_say_which_it_is(tiny, tmp_path):
    nbformat.write(ours(), tmp_path / "02_tiny.ipynb")
    other = submissions.Ours(tmp_path / "02_tiny.ipynb")
    path = tmp_path / "anna_02.ipynb"
    path.write_text(json.dumps(theirs()))
    assert submissions.Submission(path, tmp_path, [tiny, other]).ours is other


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_running(graded):
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes())
        except OSError:  # it has ended meanwhile
            pass
    assert not any(b"777123" in command for command in commands)


def test_it_goes_on_where_it_stopped(graded):
    folder, planted, _ = graded
    before = table(folder)
    (folder / "in" / "wrong_01.ipynb").write_text(json.dumps(theirs()))
    lines = (folder / "grades.csv").read_text("utf-8-sig").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("anna_01")]
    (folder / "grades.csv").write_text("".join(kept), "utf-8-sig")
    (folder / "in" / "mystery.ipynb").unlink()
    result = run(folder, limits=[])
    assert " files, 3 to grade" in result.stdout
    after = table(folder)
    assert after["wrong_01.ipynb"]["correct"] == "2" and after["anna_01.ipynb"]["correct"] == "2"
    assert after["hangs_01.ipynb"] == before["hangs_01.ipynb"]
    assert after["late_01.ipynb"] == before["late_01.ipynb"]  # though no deadline was named
    assert after["mystery.ipynb"]["remark"] == "no longer there"
    assert " files, 2 to grade" in run(folder).stdout  # with new limits: hangs and carl


def test_a_corrected_notebook_of_ours_judges_anew_and_a_students_copy_not_at_all(tmp_path):
    path, digests = tmp_path / "anna_01.ipynb", []
    path.write_text(json.dumps(theirs()))
    for notebook in (ours(), without(ours(), "helper"), student_copy(ours())):
        nbformat.write(notebook, tmp_path / "01_tiny.ipynb")
        one = submissions.Submission(path, tmp_path, [submissions.Ours(tmp_path / "01_tiny.ipynb")])
        digests.append(one.digest)
    assert digests[0] != digests[1]
    said = "not graded: our 01_tiny holds no solutions: take the teacher's notebooks"
    assert one.ours is None and one.remarks == [said]


def test_a_wrong_call_gets_a_sentence(tmp_path, capsys):
    other = tmp_path / "table.csv"
    other.write_text("name,mark\nAnna,1\n")
    for arguments, said in [
        ([tmp_path / "none"], "no folder"),
        ([tmp_path, "--out", tmp_path / "none" / "table.csv"], "none that one may write to"),
        ([tmp_path, "--out", other], "not a table of grade.py"),
        ([tmp_path, "--deadline", "30.11.2026 18:00"], 'write it as "2026-11-30 18:00"'),
    ]:
        with pytest.raises(SystemExit):
            grade.main([str(argument) for argument in arguments])
        assert said in capsys.readouterr().err
    assert other.read_text() == "name,mark\nAnna,1\n"


def test_our_own_mistake_is_not_the_students(graded):
    row = table(graded[0])["carl_02.ipynb"]
    assert row["notebook"] == "02_ours_fails" and graded[2].returncode == 1


def test_an_answer_takes_what_it_needs_and_no_more(tiny):
    cells = [("setup", "factor = 9"), ("a", "import os"), ("b", "def plus(x): return minus(x)")]
    cells += [("c", "def minus(x): return 1\nwhile True: pass"), ("d", "class Unused: pass")]
    cells += [("double-code", "def double(x):\n    return plus(x)"), ("area-code", "(")]
    first, second = tiny.exercises["1.1"], tiny.exercises["1.2"]
    assert submissions.answer(cells, first, tiny) == [
        "def plus(x):\n    return minus(x)",
        "def minus(x):\n    return 1",
        "def double(x):\n    return plus(x)",
    ]
    assert submissions.answer(cells, second, tiny) == ["("]  # to be told what is wrong with it
    assert submissions.answer(cells[:5], first, tiny) == []
    twice = "def double(x, x):\n    return x"  # what only the compiler refuses
    assert submissions.answer([("double-code", twice)], first, tiny) == [twice]
    typed = "%time\nfiles = !ls\ndef double(x):\n    return 2 * x\ndouble?\n?double"  # in Jupyter
    split = "def double(x):\n    return (x\n% 7)"  # Python, whatever its last line looks like
    assert submissions.answer([("double-code", split)], first, tiny) == [split]
    (left,) = submissions.answer([("double-code", typed)], first, tiny)
    assert left.strip() == "def double(x):\n    return 2 * x"
    # A loop's name in a comprehension is its own, in all versions of Python.
    table, own = "TABLE = [factor for factor in (1, 2)]", "ROWS = [n for n in TABLE]\n" + DOUBLE
    cells = [("a", table), ("b", "n = 1 / 0"), ("double-code", own)]
    assert submissions.answer(cells, first, tiny) == [table, own]


@pytest.mark.parametrize("name", ["anna_02", "02-anna (1)", "02_tiny anna Kopie", "anna_v2-02"])
def test_the_name_of_a_file_says_whose_it_is(name):
    assert submissions.student_of(name, "02_tiny") in ("anna", "anna_v2")
    assert submissions.student_of("essay 2", "") == "essay 2"


def test_each_notebook_fits_the_table():
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        assert 1 <= len(submissions.Ours(path).exercises) <= len(grade.EXERCISES)


@pytest.mark.slow
def test_our_own_solutions_get_full_marks(tmp_path):
    (tmp_path / "in").mkdir()
    (path,) = (ROOT / "notebooks").glob("02*.ipynb")
    (tmp_path / "in" / "teacher.ipynb").write_bytes(path.read_bytes())
    copied = student_copy(nbformat.read(path, as_version=4))
    nbformat.write(copied, tmp_path / "in" / "student.ipynb")
    result = run(tmp_path, "--notebooks", str(path.parent), "--seconds", "60", "--in-all", "240")
    rows = table(tmp_path)
    assert rows["teacher.ipynb"]["notebook"] == path.stem, result.stderr
    assert rows["teacher.ipynb"]["correct"] == rows["teacher.ipynb"]["of"] == "4"
    assert [rows["student.ipynb"][f"exercise {n}"] for n in range(1, 5)] == ["not attempted"] * 4
