"""Grade students' notebooks: one row of a CSV table for every file, whatever is in it.

python tools/grade.py submissions/ --out grades.csv

Only the answers are taken from a student's notebook: cells by their id, or wherever the function
that is asked for now stands, with the functions that it calls. All other cells, and the checks, are
those of our copy. They run once; then each answer meets its check in a process of its own, with a
time limit (sandbox.py says behind which walls). Interrupted, the next call goes on; a file that has
changed is graded again. A subfolder is a student; without one, the file's name says who it is.

Full marks are no proof: an answer runs beside its check, and could be written to deceive it. And
strangers' code belongs in a container. This makes one and grades in it:

git archive HEAD | docker build -q -t densenet -f tools/Dockerfile - && docker run --rm \\
  --network none --memory 6g --pids-limit 512 -v "$PWD/submissions:/in:ro" -v "$PWD:/out" \\
  densenet python tools/grade.py /in --out /out/grades.csv
"""

import argparse
import ast
import builtins
import csv
import hashlib
import io
import json
import os
import re
import sys
import traceback
import unicodedata
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import sandbox  # noqa: E402
from tools.refresh import STORED  # noqa: E402
from tools.student import SOLUTION  # noqa: E402

CHECK = re.compile(r'exercise\("(\d+\.\d+)"\)')
COPY = re.compile(r"(?i)[ _-]*(\(\d+\)|copy *\d*|kopie *\d*|v\d+|final)$")  # of a file's name
LARGEST = 50 * 2**20  # bytes of a notebook
PRINTED = 2**20  # characters that an answer may print
EXERCISES = 6  # columns
COLUMNS = ["file", "student", "notebook", "correct", "of", "remark"]
COLUMNS += [*(f"exercise {n}" for n in range(1, EXERCISES + 1)), "sha256"]
WALLS = {
    "True": "Answers run without network, and can write nowhere but in a folder of their own.",
    "False": "No namespaces on this system: an answer can reach the network, and your files.",
}
OUTCOMES = ("correct", "wrong", "error", "timed out", "not attempted", "missing")
ENVIRONMENT = {**STORED, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "CUDA_VISIBLE_DEVICES": ""}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)

warm = {}  # what our ordinary cells have defined, in the process that ran them


class Ours:
    """Our copy of a notebook: ordinary cells, and the cells of each exercise by its number."""

    def __init__(self, path):
        self.stem, self.number = path.stem, path.stem[:2]
        self.ordinary, self.exercises, own = [], {}, []
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code":
                continue
            if own or SOLUTION.search(cell.source):
                own.append(cell)
            else:
                self.ordinary.append(cell)
            if own and (found := CHECK.search(cell.source)):
                self.exercises[found[1]], own = own, []
        self.solutions = {
            cell.id: made(cell.source)
            for own in self.exercises.values()
            for cell in own
            if SOLUTION.search(cell.source)
        }
        of_exercises = [cell for own in self.exercises.values() for cell in own]
        self.ids = {cell.id for cell in [*self.ordinary, *of_exercises]}


class Submission:
    """A student's file: the row of the table that it gets, and its code cells if it has any."""

    def __init__(self, path, folder, deadline):
        name = str(path.relative_to(folder)).encode("utf-8", "backslashreplace").decode()
        self.row = dict.fromkeys(COLUMNS, "")
        self.row["file"] = f"./{name}" if name[0] in "=+-@" else name  # else a formula to Excel
        self.parts, self.stem = path.relative_to(folder).parts, path.stem
        self.remarks, self.cells = [], None
        try:
            self.cells = self.read(path)
            late = datetime.fromtimestamp(path.stat().st_mtime) - (deadline or datetime.max)
            if late.total_seconds() > 0:
                self.remarks.append(f"late by {str(late).partition('.')[0]}")
        except (OSError, ValueError) as error:
            self.remarks.append(f"not graded: {error}")

    def read(self, path):
        """Return the code cells as (id, source); raise ValueError if the file is no notebook."""
        if path.is_symlink() or not path.is_file():
            raise ValueError("a link or a device, not a file")
        if (size := path.stat().st_size) > LARGEST:
            raise ValueError(f"{size / 2**20:.0f} MiB, more than {LARGEST / 2**20:.0f}")
        data = path.read_bytes()
        self.row["sha256"] = hashlib.sha256(data).hexdigest()[:16]
        if path.suffix.lower() != ".ipynb":
            raise ValueError(f"a file {path.suffix or 'without ending'}, not an .ipynb")
        try:
            cells = [c for c in json.loads(data)["cells"] if c["cell_type"] == "code"]
            return [(str(cell.get("id")), "".join(cell["source"])) for cell in cells]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a notebook ({type(error).__name__}: {error})") from None

    def find(self, series):
        """Find the notebook that this answers, by ids that no other has, else by its number."""
        theirs = {cell[0] for cell in self.cells}
        counted = Counter(cell_id for ours in series for cell_id in ours.ids)
        shared = [sum(counted[i] == 1 for i in ours.ids & theirs) for ours in series]
        numbers = re.findall(r"(?<!\d)\d\d(?!\d)", self.stem)
        named = [ours for ours in series if ours.number in numbers]
        if max(shared, default=0):
            named = [series[shared.index(max(shared))]]
        if len(named) != 1:
            self.remarks.append("not graded: which notebook is it? Neither cells nor name say so")
            return None
        self.row["notebook"] = named[0].stem
        return named[0]

    @cached_property
    def student(self):
        """Whose file it is: the subfolder's name, else the file's without the notebook's."""
        if len(self.parts) > 1:
            return unicodedata.normalize("NFC", self.parts[0])
        name = unicodedata.normalize("NFC", self.stem).replace(self.row["notebook"] or "\0", "")
        while name != (shorter := COPY.sub("", name.strip(" _-."))):
            name = shorter
        name = re.sub(rf"(?<!\d){self.row['notebook'][:2] or '$'}(?!\d)", "", name).strip(" _-.")
        return name.encode("utf-8", "backslashreplace").decode()


def made(source):
    """Return the names that a source text, or one statement of it, makes at its top level."""
    if isinstance(source, str):
        return {name for statement in parsed(source).body for name in made(statement)}
    if isinstance(source, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in source.names}
    if isinstance(source, DEFINITIONS):
        return {source.name}
    stored = (n for n in ast.walk(source) if isinstance(n, ast.Name))
    return {name.id for name in stored if isinstance(name.ctx, ast.Store)}


def read(tree):
    """Return all names that occur in a syntax tree."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def parsed(source):
    """Return the syntax tree; an empty one if there is none."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def answer(cells, number, ours):
    """Return the sources to run for an exercise; none if what it asks for is nowhere defined.

    The exercise's own cells are taken whole; of the student's other cells, the definitions that
    they need. Of several definitions the last counts, as it did when the student ran the notebook.
    """
    own = {cell.id for cell in ours.exercises[number]} & ours.solutions.keys()
    asked = set().union(*(ours.solutions[cell_id] for cell_id in own))
    pieces, broken = [], False  # pieces: [taken, names made, names read, source]
    for cell_id, source in cells:
        source = re.sub(r"(?m)^[%!?].*$", "", source)  # for IPython, not for Python
        tree = parsed(source)
        if cell_id in own:
            broken |= not tree.body and bool(source.strip())
            pieces.append([True, made(source), read(tree), source])
        elif cell_id not in ours.ids or cell_id in ours.solutions:
            for statement in tree.body:
                if isinstance(statement, DEFINITIONS) or made(statement) & asked:
                    text = ast.unparse(statement)
                    pieces.append([False, made(statement), read(statement), text])
    needed = asked.union(*(piece[2] for piece in pieces if piece[0]))
    while wanted := [piece for piece in pieces if not piece[0] and piece[1] & (needed | {"*"})]:
        for piece in wanted:
            piece[0], needed = True, needed | piece[2]
    taken = [piece for piece in pieces if piece[0]]
    found = asked <= set().union(*(piece[1] for piece in taken)) or broken
    return [piece[3] for piece in taken] if found else []


class Output(io.StringIO):
    """What an answer prints, up to a limit."""

    def write(self, text):
        if self.tell() + len(text) > PRINTED:
            raise OSError(f"more than {PRINTED:,} characters printed")
        return super().write(text)


def judge(sources, number, ours):
    """Run an answer and its check, each with names of its own, and return the outcome."""
    theirs, checks = dict(warm), dict(warm)
    library = {name: m for name, m in sys.modules.items() if name.startswith("densenet_lib")}
    whole = [(vars(m), dict(vars(m))) for m in (builtins, *library.values())]
    printed = Output()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            for source in sources:
                exec(compile(source, "<answer>", "exec"), theirs)
    except NotImplementedError:
        return "not attempted"
    except BaseException as error:
        return f"error: {last_line(error)}"
    for module, as_it_was in whole:
        module.update(as_it_was)
    for asked in ours.solutions.values():
        checks.update({name: theirs[name] for name in asked & theirs.keys()})
    try:
        with redirect_stdout(printed := Output()):
            for cell in ours.exercises[number]:
                if cell.id not in ours.solutions:
                    exec(compile(cell.source, "<check>", "exec"), checks)
    except AssertionError as error:
        return f"wrong: {last_line(error, whole=True)}"
    except BaseException as error:
        return f"error: {last_line(error)}"
    correct = printed.getvalue().endswith(f"Exercise {number}: correct.\n")
    return "correct" if correct else "not attempted"


def last_line(error, whole=False):
    """Return the last line of an error's traceback; of an AssertionError, all of its message."""
    text = str(error) if whole else traceback.format_exception_only(error)[-1]
    return " ".join(text.split())[:300]


def warm_up(ours, folder):
    """Run our ordinary cells, once, in this process; return the error that stopped them, if any."""
    warm.clear()
    warm["__name__"] = "__main__"
    os.chdir(folder)
    try:
        with redirect_stdout(io.StringIO()):
            for cell in ours.ordinary:
                exec(compile(cell.source, f"<{cell.id}>", "exec"), warm)
    except Exception as error:
        return f"our cell {cell.id} fails: {last_line(error)}"
    return ""


def grade(cells, ours, hidden, seconds, in_all):
    """Return the outcome of each exercise of a submission, in the warm process."""
    outcomes, deadline = [], monotonic() + in_all
    for number in ours.exercises:
        sources, left = answer(cells, number, ours), min(seconds, deadline - monotonic())
        try:
            if not sources:
                outcome = "missing"
            elif left <= 0:
                outcome = f"timed out: {in_all:g} s for the whole notebook"
            else:
                outcome = sandbox.run(
                    lambda walls, s=sources, n=number: judge(s, n, ours), left, hidden
                )
        except TimeoutError:
            outcome = f"timed out: {left:.0f} s"
        except ChildProcessError as error:
            outcome = f"error: it ended its process ({error})"
        outcomes.append(outcome)
    return outcomes


def load(out):
    """Return the rows of an earlier call, by file; raise ValueError if the table is not ours."""
    if not out.exists():
        return {}
    with out.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f"{out} is not a table of grade.py: choose another --out")
        return {row["file"]: row for row in reader}


def store(out, rows):
    """Write the whole table beside the old one, then in its place; Excel reads the accents."""
    partial = out.with_name(f"{out.name}.partial")
    with partial.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows[name] for name in sorted(rows))
    os.replace(partial, out)


def summarise(rows, series):
    """Print how often each exercise had which outcome, and the most frequent complaint."""
    print("\nexercise " + "".join(f"{name:>15}" for name in OUTCOMES) + "  most often")
    for ours in series:
        graded = [row for row in rows.values() if row["notebook"] == ours.stem and row["of"]]
        for column, number in enumerate(ours.exercises if graded else (), start=1):
            outcomes = [row[f"exercise {column}"] for row in graded]
            kinds = Counter(outcome.partition(":")[0] for outcome in outcomes)
            said = Counter(o for o in outcomes if o.startswith(("wrong", "error"))).most_common(1)
            often = f"  {said[0][1]} x {said[0][0][:90]}" if said else ""
            print(f"{number:9}" + "".join(f"{kinds[kind]:15}" for kind in OUTCOMES) + often)


def parse(arguments):
    """Return the options of the command line; a wrong one ends the program with one sentence."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("submissions", type=Path, help="the folder that holds the students' files")
    parser.add_argument("--out", type=Path, default=Path("grades.csv"), help="the table (CSV)")
    parser.add_argument("--deadline", type=datetime.fromisoformat, metavar='"2026-11-30 18:00"')
    parser.add_argument("--seconds", type=float, default=30, help="for an exercise (30)")
    parser.add_argument("--in-all", type=float, default=90, help="seconds for a notebook (90)")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="our copies")
    chosen = parser.parse_args(arguments)
    if not hasattr(os, "fork"):
        parser.error("Windows cannot fork: use WSL, or the container that this file's head shows")
    if not chosen.submissions.is_dir():
        parser.error(f"no folder {chosen.submissions}")
    try:
        chosen.known = load(chosen.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return chosen


def submissions_in(folder, out, deadline, series):
    """Return the files in a folder and in its subfolders, hidden ones left out, as submissions."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        if not hidden and (path.is_symlink() or not path.is_dir()) and path.resolve() != out:
            found.append(Submission(path, folder, deadline))
    for one in found:
        one.ours = one.find(series) if one.cells is not None else None
        one.row["student"] = one.student
    files = Counter((one.student.casefold(), one.ours) for one in found if one.ours)
    for one in found:
        if (count := files[one.student.casefold(), one.ours]) > 1:
            one.remarks.append(f"one of {count} files of this student")
        one.row["remark"] = "; ".join(one.remarks)
    return found


def graded(group, ours, chosen):
    """Grade one notebook's submissions, in order; yield each with its outcomes or a reason."""
    hidden = [chosen.submissions.resolve(), chosen.notebooks.resolve(), ROOT / "tests"]
    waiting, count = list(group), len(ours.exercises)
    while waiting:
        with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
            reason = pool.submit(warm_up, ours, chosen.notebooks).result()
            try:
                while waiting:
                    one, limits = waiting.pop(0), (chosen.seconds, chosen.in_all)
                    job = reason or pool.submit(grade, one.cells, ours, hidden, *limits).result()
                    yield one, job
            except BrokenProcessPool:  # where there are no namespaces, an answer can do that
                yield one, ["error: it ended the grader"] * count


def main(arguments=None):
    """Grade what is not graded yet and return the exit code."""
    chosen = parse(arguments)
    os.environ.update(ENVIRONMENT)
    series = [Ours(path) for path in sorted(chosen.notebooks.glob("[0-9]*.ipynb"))]
    everything = submissions_in(chosen.submissions, chosen.out.resolve(), chosen.deadline, series)
    rows, waiting = dict(chosen.known), defaultdict(list)
    for one in everything:
        old = rows.get(one.row["file"], {})
        if one.ours and old.get("sha256") == one.row["sha256"] and old["of"]:
            one.row = {**old, "student": one.student, "remark": one.row["remark"]}
        elif one.ours:
            waiting[one.ours].append(one)
        rows[one.row["file"]] = one.row
    store(chosen.out, rows)
    total, done = sum(map(len, waiting.values())), 0
    print(f"{len(everything)} files, {total} to grade. {WALLS[sandbox.run(str, 60)]}", flush=True)
    for ours, group in waiting.items():
        for one, outcomes in graded(group, ours, chosen):
            done += 1
            if isinstance(outcomes, str):
                one.row["remark"] = "; ".join([f"not graded: {outcomes}", *one.remarks])
            else:
                one.row.update(correct=outcomes.count("correct"), of=len(outcomes))
                one.row.update({f"exercise {n}": o for n, o in enumerate(outcomes, start=1)})
            store(chosen.out, rows)
            result = f"{one.row['correct']} of {one.row['of']}" if one.row["of"] else outcomes
            print(f"[{done}/{total}] {one.row['file']}: {result}", flush=True)
    summarise(rows, series)
    for row in rows.values():
        if row["remark"]:
            print(f"{row['file']}: {row['remark']}")
    print(f"The table is {chosen.out}.")
    return int(any("our cell" in row["remark"] for row in rows.values()))


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a student's name may not fit
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nstopped: the same command goes on from here")
