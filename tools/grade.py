"""Grade students' notebooks: one row of a CSV table for every file, whatever is in it.

python tools/grade.py submissions/ --out grades.csv

Only the answers are taken from a student's notebook: cells by their id, or wherever the function
that is asked for now stands, with the functions and values of other cells that it needs. All other
cells, and the checks, are those of our copy. They run once; then each answer meets its check in a
process of its own, with a time limit (sandbox.py says behind which walls). Interrupted, the next
call goes on; a file that has changed, or whose checks have, is graded again. A subfolder of the
first level is a student; without one, the file's name says who it is. The column `remark` is the
program's, each time anew.

Full marks are no proof: an answer runs beside its check, and could be written to deceive it. And
strangers' code belongs in a container. This makes one and grades in it:

git archive HEAD | docker build -q -t densenet -f tools/Dockerfile - && docker run --rm \\
  --network none --memory 6g --pids-limit 512 -v "$PWD/submissions:/in:ro" -v "$PWD:/out" \\
  densenet python tools/grade.py /in --out /out/grades.csv
"""

import argparse
import builtins
import csv
import io
import os
import sys
import traceback
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import sandbox  # noqa: E402
from tools.refresh import STORED  # noqa: E402
from tools.submissions import Ours, answer, submissions_in  # noqa: E402

PRINTED = 2**20  # characters that an answer may print
SECONDS, IN_ALL = 30, 90  # for an exercise, for a notebook
GONE = "no longer there"
OUTCOMES = ("correct", "wrong", "error", "timed out", "not attempted", "missing")
EXERCISES = [f"exercise {n}" for n in range(1, 13)]
COLUMNS = ["file", "student", "notebook", "correct", "of", "remark", *EXERCISES, "sha256"]
ENVIRONMENT = {**STORED, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "CUDA_VISIBLE_DEVICES": ""}
WALLS = {
    "True": "Answers run without network, and can write nowhere but in a folder of their own.",
    "False": "Not all walls stand on this system: an answer can reach your files, or the network.",
}

warm = {}  # what our ordinary cells have defined, in the process that ran them


class Output(io.StringIO):
    """What an answer prints, up to a limit."""

    def write(self, text):
        if self.tell() + len(text) > PRINTED:
            raise OSError(f"more than {PRINTED:,} characters printed")
        return super().write(text)


def judge(sources, number, ours):
    """Run an answer, then its check, each with names of its own, and return the outcome."""
    theirs, checks = dict(warm), dict(warm)
    modules = [m for name, m in sys.modules.items() if name.startswith("densenet_lib")]
    whole = [(vars(module), dict(vars(module))) for module in (builtins, *modules)]
    try:
        with redirect_stdout(Output()) as printed, redirect_stderr(printed):
            for source in sources:
                exec(compile(source, "<answer>", "exec"), theirs)
    except NotImplementedError:
        return "not attempted"
    except BaseException as error:  # exit() as well
        return f"error: {last_line(error)}"
    for names, as_they_were in whole:
        names.update(as_they_were)
    checks.update({name: theirs[name] for name in ours.asked & theirs.keys()})
    try:
        with redirect_stdout(Output()) as printed:
            for source in ours.exercises[number].checks:
                exec(compile(source, "<check>", "exec"), checks)
    except AssertionError as error:
        return f"wrong: {' '.join(str(error).split())[:300]}"
    except BaseException as error:
        return f"error: {last_line(error)}"
    said = [s for s in printed.getvalue().splitlines() if s.startswith(f"Exercise {number}: ")]
    return "correct" if said[-1:] == [f"Exercise {number}: correct."] else "not attempted"


def last_line(error):
    """Return the last line of an error's traceback."""
    return " ".join(traceback.format_exception_only(error)[-1].split())[:300]


def warm_up(ours, folder):
    """Run our ordinary cells, once, in this process; return the error that stopped them, if any."""
    os.chdir(folder)
    warm["__name__"] = "__main__"
    for name, source in ours.ordinary:
        try:
            with redirect_stdout(io.StringIO()):
                exec(compile(source, f"<{name}>", "exec"), warm)
        except Exception as error:
            return f"our cell {name} fails: {last_line(error)}"
    return ""


def grade(cells, ours, hidden, seconds, in_all):
    """Return the outcome of each exercise of a submission, in the warm process."""
    outcomes, deadline = [], monotonic() + in_all
    for number, exercise in ours.exercises.items():
        left = min(seconds, deadline - monotonic())
        if not (sources := answer(cells, exercise, ours)):
            outcomes.append("missing")
        elif left <= 0:
            outcomes.append(f"timed out: {in_all:g} s for the whole notebook")
        else:
            outcomes.append(behind_walls(sources, number, ours, hidden, left))
    return outcomes


def behind_walls(sources, number, ours, hidden, seconds):
    """Return the outcome of an exercise, whatever becomes of the process in which it runs."""
    try:
        return sandbox.run(lambda walls: judge(sources, number, ours), seconds, hidden)
    except TimeoutError:
        return f"timed out: {seconds:.0f} s"
    except ChildProcessError as error:
        return f"error: it ended its process ({error})"


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
    """Print each remark, and how often each exercise had which outcome and complaint."""
    print(*(f"{row['file']}: {row['remark']}" for row in rows.values() if row["remark"]), sep="\n")
    rows = {file: row for file, row in rows.items() if row["remark"] != GONE}
    print("\nexercise " + "".join(f"{name:>15}" for name in OUTCOMES) + "  most often")
    for ours in series:
        graded = [row for row in rows.values() if row["notebook"] == ours.stem and row["of"]]
        for column, number in zip(EXERCISES, ours.exercises if graded else (), strict=False):
            outcomes = [row[column] for row in graded]
            kinds = Counter(outcome.partition(":")[0] for outcome in outcomes)
            said = Counter(o for o in outcomes if o.startswith(("wrong", "error"))).most_common(1)
            often = "".join(f"  {count} x {outcome[:90]}" for outcome, count in said)
            print(f"{number:9}" + "".join(f"{kinds[kind]:15}" for kind in OUTCOMES) + often)


def parse(arguments):
    """Return the options of the command line; a wrong one ends the program with one sentence."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("submissions", type=Path, help="the folder that holds the students' files")
    parser.add_argument("--out", type=Path, default=Path("grades.csv"), help="the table (CSV)")
    deadline = 'as "2026-11-30 18:00"; a file\'s own time tells, which copying may change'
    parser.add_argument("--deadline", type=moment, help=deadline)
    again = "given, what timed out is graded again"
    parser.add_argument("--seconds", type=float, help=f"for an exercise ({SECONDS}); {again}")
    parser.add_argument("--in-all", type=float, help=f"seconds for a notebook ({IN_ALL}); {again}")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="our copies")
    chosen = parser.parse_args(arguments)
    if not hasattr(os, "fork"):
        parser.error("Windows cannot fork: use WSL, or the container that this file's head shows")
    if not chosen.submissions.is_dir():
        parser.error(f"no folder {chosen.submissions}")
    if not os.access(chosen.out.parent, os.W_OK):
        parser.error(f"no folder {chosen.out.parent}, or none that one may write to")
    chosen.notebooks = chosen.notebooks.resolve()
    chosen.patient = bool(chosen.seconds or chosen.in_all)
    chosen.seconds, chosen.in_all = chosen.seconds or SECONDS, chosen.in_all or IN_ALL
    try:
        chosen.known = load(chosen.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return chosen


def moment(text):
    """Return the date and time that a text names."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r}: write it as "2026-11-30 18:00"') from None


def graded(group, ours, chosen):
    """Grade one notebook's submissions, in order; yield each with its outcomes or a reason."""
    hidden = [chosen.submissions.resolve(), chosen.notebooks]
    hidden += [ROOT / name for name in ("tests", "exam", "build", ".git")]  # solutions lie there
    waiting = list(group)
    while waiting:
        with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
            reason = pool.submit(warm_up, ours, chosen.notebooks).result()
            try:
                while waiting:
                    one, limits = waiting.pop(0), (chosen.seconds, chosen.in_all)
                    job = reason or pool.submit(grade, one.cells, ours, hidden, *limits).result()
                    yield one, job
            except BrokenProcessPool:  # where there are no namespaces, an answer can do that
                yield one, ["error: it ended the grader"] * len(ours.exercises)


def row_of(one, old, chosen):
    """Return a submission's row, with the outcomes of the same file's old row, if it was graded."""
    row = dict.fromkeys(COLUMNS, "")
    again = chosen.patient and any(old[column].startswith("timed out") for column in EXERCISES)
    if one.ours and old["sha256"] == one.digest and not again:
        row.update(old)
    if old["sha256"] == one.digest and not chosen.deadline:  # an earlier call had one
        one.remarks[:0] = [
            said for said in old["remark"].split("; ") if said.startswith("late by ")
        ]
    row.update(file=one.file, student=one.student, sha256=one.digest)
    return row | {"remark": "; ".join(one.remarks), "notebook": one.ours.stem if one.ours else ""}


def main(arguments=None):
    """Grade what is not graded yet and return the exit code."""
    chosen = parse(arguments)
    os.environ.update(ENVIRONMENT)
    series = [Ours(path) for path in sorted(chosen.notebooks.glob("[0-9]*.ipynb"))]
    out, rows, waiting, ours_fails = chosen.out, chosen.known, defaultdict(list), False
    everything = submissions_in(chosen.submissions, series, chosen.deadline, out.resolve())
    for file in rows.keys() - {one.file for one in everything}:
        rows[file]["remark"] = GONE  # its marks stay: it may have been another folder's
    for one in everything:
        rows[one.file] = row_of(one, rows.get(one.file, dict.fromkeys(COLUMNS, "")), chosen)
        if one.ours and not rows[one.file]["of"]:
            waiting[one.ours].append(one)
            rows[one.file]["remark"] = "; ".join(["not graded yet", *one.remarks])
    store(out, rows)
    total, done = sum(map(len, waiting.values())), 0
    print(f"{len(everything)} files, {total} to grade. {WALLS[sandbox.run(str, 60)]}", flush=True)
    for ours, group in waiting.items():
        for one, outcomes in graded(group, ours, chosen):
            row, done = rows[one.file], done + 1
            if isinstance(outcomes, str):
                result, ours_fails = f"not graded: {outcomes}", True
                row["remark"] = "; ".join([result, *one.remarks])
            else:
                row.update(correct=outcomes.count("correct"), of=len(outcomes))
                row["remark"] = "; ".join(one.remarks)
                row.update(zip(EXERCISES, outcomes, strict=False))
                result = f"{row['correct']} of {row['of']}"
            store(out, rows)
            print(f"[{done}/{total}] {one.file}: {result}", flush=True)
    summarise(rows, series)
    print(f"The table is {out}.")
    return int(ours_fails)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a student's name may not fit
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nstopped: the same command goes on from here")
